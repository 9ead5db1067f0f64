"""`vlpart recipes`: what can be trained, with which settings, and how to change them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from vlpart.cli.console import note_config, print_table, say
from vlpart.cli.options import complete_recipes
from vlpart.files import is_there

_commands = typer.Typer(no_args_is_help=True, help="The recipes: what can be trained.")
_Data = Annotated[
    Path, typer.Option("--data", envvar="VLPART_DATA", help="Folder that holds the data sets.", file_okay=False)
]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Init = Annotated[str | None, typer.Option("--init", help="First weights; for finetune tiny by default.")]
_Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="Name of a recipe, path of a published yaml, or a recipe file.",
        autocompletion=complete_recipes,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the `vlpart` command."""
    app.add_typer(_commands, name="recipes")


@_commands.command("list")
def list_command() -> None:
    """List all recipes."""
    from vlpart.recipes import FINETUNE, RECIPES

    rows: list[tuple[object, ...]] = []
    for name, function in RECIPES.items():
        recipe = function(Path("datasets"))
        rows.append(
            (name, recipe.architecture, len(recipe.sources), recipe.iterations, recipe.inference_vocabulary or "")
        )
    rows.append((FINETUNE, "of --init", 1, "by --data", "of --data"))
    print_table(("name", "architecture", "sources", "iterations", "vocabulary"), rows, right=("sources", "iterations"))


@_commands.command("show")
def show(name: _Name, data: _Data = Path("datasets"), init: _Init = None, as_json: _Json = False) -> None:
    """Show one recipe.

    What it is, the published time and figures, its sources, and every setting.
    """
    from vlpart.recipes import describe_recipe, get_recipe

    recipe = get_recipe(name, data, init=init)
    note_config(name)
    plain = recipe.to_dict()
    if as_json:
        typer.echo(json.dumps(plain, indent=2))
        return
    if not name.endswith(".py"):
        say(describe_recipe(name), lines=True)
        say("")
    for source in recipe.sources:
        sides = f"{'-' if source.short_side_sampling == 'range' else '/'}".join(map(str, source.short_sides))
        extras = [word for word in ("federated", "strong_augmentation") if getattr(source, word)]
        extras += [f"repeat {source.repeat_threshold:g}"] if source.repeat_threshold else []
        say(
            f"source {source.name}: {source.kind.value}, vocabulary {source.vocabulary}, ratio {source.ratio:g}, "
            f"batch {source.batch_size}, sides {sides} (at most {source.max_side})" + "".join(f", {e}" for e in extras)
        )
        say(f"  {source.annotations}")
    for each in recipe.evaluate_on:
        say(f"evaluation {each.name}: {each.annotations}")
    for key, value in plain.items():
        if key not in ("sources", "evaluate_on", "name") and value not in (None, ""):
            say(f"{key:<26} {' '.join(map(str, value)) if isinstance(value, list) else value}")


@_commands.command("export")
def export(
    name: _Name,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; by default it is printed.", dir_okay=False)
    ] = None,
    data: _Data = Path("datasets"),
    init: _Init = None,
) -> None:
    """Write a recipe as a Python file to change.

    `vlpart train FILE.py` trains it.
    """
    from vlpart.errors import OutputError
    from vlpart.files import write_file
    from vlpart.recipes import get_recipe
    from vlpart.recipes.files import to_python

    text = to_python(get_recipe(name, data, init=init), data)
    note_config(name)
    if output is None:
        say(text, lines=True, end="")
        return
    if is_there(output):
        raise OutputError(f"{output} exists: choose another name, so that nothing of yours is lost")
    say(write_file(output, text.encode()))
