"""The `vlpart` command: options of all commands, exit codes, and what a user sees of an error.

Exit codes: 0 done, 1 an error or skipped images, 2 wrong usage, 130 interrupted (Ctrl-C), 143 terminated.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vlpart import __version__
from vlpart.cli import data, doctor, evaluate, models, parse, parse_objects, predict, recipes, train, vocabularies, zoo
from vlpart.cli.console import print_error
from vlpart.cli.suggestions import suggest_command, suggest_option
from vlpart.errors import VlpartError

INTERRUPTED = 130

#: Turns that a thread of GNU OpenMP spins while it waits for the others. Its default is 300,000: where the cores are
#: shared with another program, the thread that is waited for may be the one that is kept from running, and an image
#: takes many times as long. Without any spinning, the many short operations of a small model take twice as long. See
#: `benchmarks/shared_cores.py`.
SPIN = "1000"


class _Commands(TyperGroup):
    """The group of all commands.

    Ctrl-C ends every command with one line and exit code 130; what is called otherwise in other tools is suggested.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is meant by the first argument."""
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            suggest_command(error, args[0], self.commands)
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            print_error("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if hasattr(error, "option_name") and hasattr(error, "possibilities"):  # an option that the command lacks
                suggest_option(error)
            raise


app = typer.Typer(
    name="vlpart",
    cls=_Commands,
    help="Open-vocabulary part segmentation: find objects and their parts in photos.",
    no_args_is_help=True,
    rich_markup_mode="rich" if sys.stdout.isatty() and sys.stderr.isatty() else None,  # plain text in pipes and logs
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (predict, models, vocabularies, evaluate, zoo, train, recipes, data, parse, parse_objects, doctor):
    command.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vlpart {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (also: VLPART_DEBUG=1).")
    ] = False,
) -> None:
    if debug:
        os.environ["VLPART_DEBUG"] = "1"
    if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = SPIN  # read when torch starts


def main() -> None:
    """Entry point of the console script. Always ends with `SystemExit`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold what the terminal cannot show
    if hasattr(signal, "SIGTERM"):
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    command = typer.main.get_command(app)
    try:
        command(prog_name="vlpart")
    except KeyboardInterrupt:
        print_error("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe is gone, as with `| head`: nothing to say, nobody to say it to
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if os.environ.get("VLPART_DEBUG", "") not in ("", "0"):
            raise
        if isinstance(error, VlpartError):
            print_error(error)
        else:
            print_error(f"{type(error).__name__}: {error} (unexpected: run `vlpart --debug ...` to see where)")
        sys.exit(1)
