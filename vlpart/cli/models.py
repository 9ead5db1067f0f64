"""`vlpart models`: what can be loaded by name, and fetching it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlpart.cli.console import Bars, megabytes, print_table, say
from vlpart.cli.options import complete_models

if TYPE_CHECKING:
    from vlpart.zoo.catalogue import ModelEntry

_commands = typer.Typer(no_args_is_help=True, help="The models: what can be loaded by name.")
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the `vlpart` command."""
    app.add_typer(_commands, name="models")


@_commands.command("list")
def list_command(as_json: _Json = False) -> None:
    """List all models."""
    from vlpart.zoo.catalogue import list_models

    entries = list_models()
    if as_json:
        typer.echo(json.dumps([{**asdict(entry), "weights": _where(entry)} for entry in entries], indent=2))
        return
    rows = [(entry.name, entry.architecture, entry.vocabulary, _where(entry)) for entry in entries]
    print_table(("name", "architecture", "vocabulary", "weights"), rows)


@_commands.command("show")
def show(
    name: Annotated[str, typer.Argument(help="Model name, weight file or run folder.", autocompletion=complete_models)],
    as_json: _Json = False,
) -> None:
    """Show one model, run folder or weight file.

    Its defaults, where its weights are, the published figures.
    """
    from vlpart.zoo.resolve import resolve

    model = resolve(name)
    entry, _ = model.describe()
    where = _where(entry) if model.file is None else str(model.file)
    if as_json:
        typer.echo(json.dumps({**asdict(entry), "weights": where}, indent=2))
        return
    facts = {
        "name": entry.name,
        "architecture": entry.architecture,
        "vocabulary": entry.vocabulary,
        "text encoder": entry.text_encoder,
        "score threshold": entry.score_threshold,
        "detections": entry.detections_per_image,
        "weights": where,
    }
    if model.file is None:  # what is known about the file of the catalogue, and not of this one
        facts |= {
            "size": megabytes(entry.size),
            "sha256": entry.sha256,
            "address": entry.url,
            "training time": entry.training_time,
            "note": entry.note,
        }
    for key, value in facts.items():
        if value not in (None, ""):
            say(f"{key:<16} {value}")
    for result in entry.published:
        figures = ", ".join(f"{metric} {_figure(value)}" for metric, value in result.metrics.items())
        say(f"{'measured' if entry.embedded else 'published':<16} {result.table} ({result.row}): {figures}")


@_commands.command("download")
def download(
    names: Annotated[
        list[str], typer.Argument(metavar="NAME", help="Names of models.", autocompletion=complete_models)
    ],
    force: Annotated[bool, typer.Option("--force", help="Download again even if the file is there.")] = False,
    no_progress: Annotated[bool, typer.Option("--no-progress", help="No progress bar.")] = False,
) -> None:
    """Fetch the weights of models, and of the text encoder that they need.

    They go into the cache folder, and the paths are printed. An interrupted download goes on where it stopped.
    """
    from vlpart.text.clip import ClipTextEncoder, find_text_weights
    from vlpart.zoo.catalogue import get_model
    from vlpart.zoo.download import download_model

    encoders = {get_model(name).text_encoder for name in names}  # a wrong name is told before the first download
    with Bars(hidden=no_progress, in_bytes=True) as progress:
        for name in names:
            say(download_model(name, force=force, progress=progress))
        if ClipTextEncoder.name in encoders:
            say(find_text_weights(progress))


def _where(entry: ModelEntry) -> str:
    """Where the weights are, in two words."""
    from vlpart.files import cache_folder

    if entry.embedded:
        return "in the package"
    return "downloaded" if (cache_folder() / "models" / entry.file_name).is_file() else "to download"


def _figure(value: Any) -> str:
    return " / ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
