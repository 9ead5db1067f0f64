"""`vlpart vocabularies`: the category lists of the package, and how a text of your own is understood."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from vlpart.cli.console import print_table
from vlpart.cli.options import complete_vocabularies

_commands = typer.Typer(no_args_is_help=True, help="Category lists: what the package knows by name.")


def register(app: typer.Typer) -> None:
    """Add the commands to the `vlpart` command."""
    app.add_typer(_commands, name="vocabularies")


@_commands.command("list")
def list_vocabularies() -> None:
    """List the category lists of the package."""
    from vlpart.text.vocabulary import Vocabulary

    lists = [Vocabulary.load(name) for name in Vocabulary.available()]
    rows = [(vocabulary.title, len(vocabulary), vocabulary.about) for vocabulary in lists]
    print_table(("name", "entries", "about"), rows, right=("entries",))


@_commands.command("show")
def show(
    vocabulary: Annotated[
        str,
        typer.Argument(
            help="Name of a list, a file, or text as in 'car: wheel, door; person'.",
            autocompletion=complete_vocabularies,
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, a file that --vocabulary takes.")] = False,
) -> None:
    """Show the entries of a vocabulary: id, name, and for a part its object and its own name."""
    from vlpart.text.vocabulary import Vocabulary

    resolved = Vocabulary.of(vocabulary)
    if as_json:
        typer.echo(json.dumps(resolved.to_dict(), indent=1, ensure_ascii=False))
        return
    rows = [(entry.id, entry.name, entry.object or "", entry.part or "") for entry in resolved.entries]
    print_table(("id", "name", "part of", "part"), rows, right=("id",))
