"""The commands `bench`, and `bench compare`, `plot`, `verify` and `publish`; torch is loaded to measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aosa_fast.bench.environment import quiet_threads
from aosa_fast.bench.registry import SUITES, chosen_parts
from aosa_fast.cli.options import option
from aosa_fast.cli.terminal import consoles, write_fact, write_line
from aosa_fast.errors import InputError
from aosa_fast.registry import import_object

bench = typer.Typer(name="bench", rich_markup_mode="rich")

Suites = Annotated[
    list[str] | None,
    option(
        f"What is measured; may be repeated: {', '.join(SUITES)}, or one part of a suite, such as stages:operators. "
        "`aosa-fast list suites` says more. Default: all of it.",
        "figures",
        metavar="SUITE[:PART]",
    ),
]
Device = Annotated[str, option("What is measured there.", "run", metavar="cpu|cuda[:N]")]
Quick = Annotated[bool, option("A few rounds of everything: to try it, or to see large changes.", "run")]
Run = Annotated[Path, typer.Argument(metavar="RUN.json", help="What bench --json wrote, or a table like results.csv.")]


def register(app: typer.Typer) -> None:
    """Adds the commands to the command line."""
    app.add_typer(bench)


@bench.callback(invoke_without_command=True)
def measure(
    context: typer.Context,
    suite: Suites = None,
    device: Device = "cpu",
    quick: Quick = False,
    json: Annotated[
        Path | None, option("Write every figure here with all its rounds, as it is made.", "out", metavar="FILE")
    ] = None,
) -> None:
    """Measure how fast it is here; every answer is checked before it is timed.

    [bold]Examples[/bold]

    aosa-fast bench --suite peers --quick --json peers.json     beside others

    aosa-fast bench plot peers.json --out peers.png

    aosa-fast bench compare before.json after.json              beyond the noise

    aosa-fast bench verify --all --quick                        do ratios hold?

    What is compared runs in one process in interleaved rounds (A B C, C B A, ...); a ratio is the median of the rounds'
    ratios, beside it the 20th and the 80th percentile. On an idle machine: other work is told with each figure.

    Exit codes: 0 done; 1 an answer is wrong, and nothing was timed, or a part failed; 2 bad argument.
    """
    if context.invoked_subcommand is not None:
        return
    parts = chosen_parts(suite or [], cuda=_is_cuda(device))
    quiet_threads()
    raise typer.Exit(import_object("aosa_fast.bench.run:run_parts")(parts, device, quick, json))


@bench.command("compare")
def compare(
    before: Annotated[Path, typer.Argument(metavar="A.json", help="A run, or a table like results.csv.")],
    after: Annotated[Path, typer.Argument(metavar="B.json", help="Another one.")],
) -> None:
    """Say what differs between two runs by more than chance: intervals of the ratio B / A from the rounds of both.

    The intervals are for all rows together: where nothing has changed, one comparison in twenty names any row. They
    know the noise within a run, not that a machine is slower on another day: of two runs of the same code, ratios agree
    and times may not.
    """
    lines = import_object("aosa_fast.bench.compare:compare")(before, after)
    for line in lines:
        write_line(consoles()[0], line)


@bench.command("plot")
def plot(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[RUN.json]...", help="Runs, or tables. Default: the published figures."),
    ] = None,
    what: Annotated[str, option("The picture.", "figures", metavar="peers|scaling")] = "peers",
    out: Annotated[Path, option("A file of any format that Matplotlib writes.", "out", metavar="FILE")] = Path(
        "out/bench/peers.png"
    ),
) -> None:
    """Draw figures: ours, other packages', the authors' way and the floor on the same work; or how cost grows."""
    import_object("aosa_fast.libraries:check_libraries")("matplotlib", extra="bench", what="bench plot")
    import_object("aosa_fast.bench.plot:plot")(runs or [], what, out)
    write_fact(consoles()[0], "picture", str(out))


@bench.command("verify", no_args_is_help=True)
def verify(
    row: Annotated[
        str | None,
        typer.Argument(metavar="[ROW]", help="A published row, or words that its name has: 'approx s=8 fwd'."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every published ratio.", rich_help_panel="What is measured")
    ] = False,
    device: Device = "cpu",
    quick: Quick = False,
    json: Annotated[Path | None, option("As in bench.", "out", metavar="FILE")] = None,
) -> None:
    """Make published figures again, and say for each whether it holds here and by how much it differs.

    Answers are checked first. A figure holds where the two differ by no more than a tenth, or by what chance allows.
    Times of another machine need not hold; ratios should.

    Exit codes: 0 all hold, 1 an answer is wrong, a part failed or a figure does not hold, 2 bad argument.
    """
    if (row is None) != everything:
        raise InputError(f"verify must have either a row or --all; got {'both' if row else 'neither'}")
    _is_cuda(device)
    quiet_threads()
    code, lines = import_object("aosa_fast.bench.replay:verify")(row, device, quick, json)
    for line in lines:
        write_line(consoles()[0], line)
    raise typer.Exit(code)


@bench.command("publish", no_args_is_help=True)
def publish(
    run: Run,
    to: Annotated[Path, option("The table.", "out", metavar="FILE.csv")] = Path("bench/results.csv"),
    overwrite: Annotated[bool, option("Replace rows that are there.", "out")] = False,
) -> None:
    """Add the rows of a run to a table of published figures, by case and machine; what is there stays as it is."""
    written, kept = import_object("aosa_fast.bench.rows:publish")(run, to, overwrite)
    write_fact(consoles()[0], "rows", f"{written} written, {kept} kept as they were (--overwrite replaces them)")


def _is_cuda(device: str) -> bool:
    if device != "cpu" and not device.startswith("cuda"):
        raise InputError(f"device must be cpu or cuda[:N], for figures are of one or the other; got {device}")
    return device != "cpu"
