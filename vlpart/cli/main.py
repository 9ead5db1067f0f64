"""The `vlpart` command: options of all commands, exit codes, and what a user sees of an error.

Exit codes: 0 done, 1 an error or skipped images, 2 wrong usage, 130 interrupted (Ctrl-C), 143 terminated,
129 its terminal was closed.
"""

from __future__ import annotations

import atexit
import gc
import io
import logging
import os
import signal
import sys
import warnings
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vlpart import __version__
from vlpart.cli.console import is_terminal, print_error
from vlpart.cli.suggestions import suggest_command, suggest_option
from vlpart.errors import VlpartError
from vlpart.names import printable
from vlpart.signals import STOP_SIGNALS, heard

INTERRUPTED = 130

#: What some versions of typer leave in front of what is wrong with the value of an option.
_PREFIX = "Value error, "

#: When Python looks for garbage: importing torch makes a million objects, none garbage; looking takes a tenth of it.
_COLLECT = (50_000, 20, 20)


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

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """What the options in front of a command say."""
        try:
            return super().make_context(*args, **extra)
        except Exception as error:
            _make_printable(error)
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
            _make_printable(error)
            raise


def _make_printable(error: Exception) -> None:
    """What is wrong with a command line repeats words of it, which may be names of files or come from elsewhere."""
    for name in ("message", "option_name"):
        if isinstance(text := vars(error).get(name), str):
            vars(error)[name] = printable(text.removeprefix(_PREFIX))


#: The modules of the commands, in the order of the help; what is behind a command's name and "_" belongs to it, too.
_MODULES = (
    "predict",
    "annotate",
    "bulk",
    "models",
    "vocabularies",
    "evaluate",
    "zoo",
    "train",
    "recipes",
    "data",
    "parse",
    "parse_objects",
    "export",
    "serve",
    "doctor",
    "benchmark",
)


@cache
def application(command: str = "") -> typer.Typer:
    """The `vlpart` command.

    Args:
        command: the one that is run, if that is known: the others and their options are then not looked at, which is
            a tenth of a second.
    """
    app = typer.Typer(
        name="vlpart",
        cls=_Commands,
        callback=_options,
        help="Open-vocabulary part segmentation: find objects and their parts in photos.",
        no_args_is_help=True,
        rich_markup_mode="rich" if is_terminal() else None,  # plain text in pipes and logs
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for module in [each for each in _MODULES if each.partition("_")[0] == command] or _MODULES:
        import_module(f"vlpart.cli.{module}").register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vlpart {__version__}")
        raise typer.Exit


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


def main() -> None:
    """Entry point of the console script. Always ends with `SystemExit`."""
    gc.set_threshold(*_COLLECT)
    atexit.register(gc.freeze)  # what torch made is not searched once more at the end, when all of it goes anyway
    _prepare_streams()
    _quiet_libraries()
    for ending in set(STOP_SIGNALS) - {signal.SIGINT}:  # which is a KeyboardInterrupt
        if heard(ending):
            signal.signal(ending, lambda number, frame: sys.exit(128 + number))
    try:
        Path.cwd()
    except OSError:
        print_error("the working folder is gone: change to another one")
        sys.exit(1)
    code: Any = 1
    try:
        typer.main.get_command(application(*sys.argv[1:2]))(prog_name="vlpart")
    except SystemExit as error:
        code = error.code
    except KeyboardInterrupt:
        print_error("interrupted")
        code = INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe is gone, as with `| head`: nothing to say, nobody to say it to
        _abandon(sys.stdout)
    except Exception as error:
        if debugging():
            raise
        if not isinstance(error, OSError) or error.filename is not None or _can_write():  # else see `_flushed`
            print_error(describe(error))
    sys.exit(_flushed(code))


def debugging() -> bool:
    """Whether tracebacks are wanted."""
    return os.environ.get("VLPART_DEBUG", "") not in ("", "0")


def describe(error: Exception) -> str:
    """An error in one line, for people."""
    if isinstance(error, VlpartError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        where = error.filename
        name = "" if where is None or isinstance(where, int) else f"{os.fsdecode(where)}: "
        return f"{name}{error.strerror}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory: take smaller images, a smaller batch or another device"
    if isinstance(error, RecursionError):
        return "a file is nested too deeply"
    return f"{type(error).__name__}: {error} (run `vlpart --debug ...` to see where)"


def _prepare_streams() -> None:
    """Streams that somebody closed lead nowhere, so that no file we open takes their place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold what the terminal cannot show


def _quiet_libraries() -> None:
    """Warnings and logs of libraries are for developers: shown with --debug, or as PYTHONWARNINGS says."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(message)s"))
    own = logging.getLogger("vlpart")
    own.addHandler(handler)
    own.propagate = False
    if debugging() or "--debug" in sys.argv[1:2]:
        return
    logging.lastResort = None
    sys.unraisablehook = lambda unraisable: None  # what destructors stumble over where a signal ends the program
    if not sys.warnoptions and "PYTHONWARNINGS" not in os.environ:
        os.environ["PYTHONWARNINGS"] = "ignore"  # for processes that are started
        warnings.simplefilter("ignore")


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """The message as a terminal may have it."""
        return printable(" ".join(super().format(record).split()))


def _can_write() -> bool:
    """Whether the streams take what is buffered for them."""
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except (OSError, ValueError):
        return False
    return True


def _flushed(code: Any) -> Any:
    """Write out what is buffered; a stream that cannot take it is an error of its own."""
    for stream, name in ((sys.stdout, "standard output"), (sys.stderr, "standard error")):
        try:
            stream.flush()
        except (OSError, ValueError) as error:
            _abandon(stream)
            if not isinstance(error, BrokenPipeError):
                print_error(f"cannot write to {name}: {getattr(error, 'strerror', None) or error}")
            code = code or 1
    return code


def _abandon(stream: Any) -> None:
    """Let what is still buffered go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
