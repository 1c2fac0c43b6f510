"""The command line, `aosa-fast`. torch is loaded only when there is work to do."""

from __future__ import annotations

import inspect
import os
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from aosa_fast.cli import audit, audit_export, bench, completion, doctor, evaluate, listing
from aosa_fast.cli.explain import Explain
from aosa_fast.cli.options import command, option
from aosa_fast.cli.serve import Serve
from aosa_fast.cli.settings import with_settings
from aosa_fast.cli.stream import Stream
from aosa_fast.cli.terminal import consoles, escape_what_cannot_be_encoded, say, silence
from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.registry import import_object
from aosa_fast.version import __version__

app = typer.Typer(
    name="aosa-fast",
    help="See what a video classifier looks at: saliency videos by adaptive occlusion along the motion.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


# What typer raises for a wrong command line: click's class in its older versions, its own in newer ones.
_UsageError: Any = next(c for c in reversed(typer.BadParameter.__mro__) if hasattr(c, "format_message"))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aosa-fast {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Before an error, show where it comes from; anywhere on the line.")
    ] = False,
) -> None:
    pass


app.command("explain", no_args_is_help=True)(with_settings(command(Explain)))
app.command("stream", no_args_is_help=True)(with_settings(command(Stream)))
app.command("serve")(with_settings(command(Serve)))


@app.command("demo")
def demo(
    out: Annotated[Path, option("Folder for the results.", "out", metavar="DIR")] = Path("out/demo"),
    method: Annotated[str, option("As in explain.", "how", metavar="aosa-approx|aosa|aosa-path|...")] = "aosa",
) -> None:
    """Explain the embedded clip with the embedded model, and say how much of the map lies on the moving object."""
    # The embedded network sees 64 x 64 pixels: a finer grid and a smaller box than the paper's for 112 x 112.
    config = Config(method=method, stride=4, box=12)
    import_object("aosa_fast.cli.run_explain:run_demo")(config, out, *consoles())


evaluate.register(app)
audit.register(app)
audit_export.register(app)
listing.register(app)
completion.register(app)
doctor.register(app)
bench.register(app)
# As typer has it, the lines of a docstring end where they end in the source, at any width of the terminal.
for described in (*app.registered_commands, *bench.bench.registered_commands, bench.bench.registered_callback):
    if described is not None:
        described.help = re.sub(r"(?<!\n)\n(?!\n)", " ", inspect.getdoc(described.callback) or "")


def main() -> None:
    """Runs the command line; every expected error is one line on stderr and exit code 2.

    With --debug its traceback comes before it, with that of the user's own model where this failed.
    """
    # Spinning threads of OpenMP make everything 30 times slower where another process holds a core. Read at load.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    escape_what_cannot_be_encoded()
    warnings.showwarning = lambda message, *_: say(f"warning: {message}")
    arguments = sys.argv[1:]
    end = arguments.index("--") if "--" in arguments else len(arguments)
    debug = "--debug" in arguments[:end]
    arguments = [word for word in arguments[:end] if word != "--debug"] + arguments[end:]
    try:
        code = app(arguments, standalone_mode=False)
    except InputError as error:
        if debug:
            traceback.print_exception(error)
        _fail(str(error))
    except _UsageError as error:
        _fail(error.format_message())
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.filename is not None:
            raise
        silence()
        _fail(f"stdout must be writable; got {error.strerror}")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str) -> None:
    if message:
        say(f"error: {message}")
    sys.exit(2)
