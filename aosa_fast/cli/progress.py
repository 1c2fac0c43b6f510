"""How far a long command is: a bar on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar

from aosa_fast.cli.terminal import write_line
from aosa_fast.inference.timing import Progress

_EVERY = 30.0  # seconds between the lines


@contextmanager
def show_progress(console: Console, title: str) -> Iterator[Progress]:
    """Gives a function that shows how far it is, called with (done, in all) and, if there is more to say, a text.

    The rate is that since its first call, which may come before any step, and what was done by then is not counted.
    """
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[pace]}")]
    bar = Bar(*columns, console=console, disable=not console.is_terminal)
    # Not begun where nobody sees it: rich before 14.1 ends with an empty line all the same.
    with nullcontext() if bar.disable else bar:
        task = bar.add_task(title, total=None, pace="")
        said = time.monotonic()
        first: tuple[int, float] | None = None

        def show(done: int, total: int, what: str = "", /) -> None:
            nonlocal said, first
            first = first or (done, time.monotonic())
            pace = _pace(done - first[0], total - done, time.monotonic() - first[1])
            text = f"{title}: {what}" if what else title
            bar.update(task, completed=done, total=total, description=text, pace=pace)
            if bar.disable and time.monotonic() - said > _EVERY:
                said = time.monotonic()
                line = f"{done}/{total} {text}" + (f", {pace}" if pace else "")
                write_line(console, line)

        yield show
        bar.update(task, completed=bar.tasks[0].total or 1, total=bar.tasks[0].total or 1)


def _pace(done: int, left: int, seconds: float) -> str:
    """Steps per second, and how long the others will take at that."""
    if done <= 0 or seconds <= 0:
        return ""
    rest = timedelta(seconds=round(left * seconds / done))
    return f"{done / seconds:.1f}/s" + (f", {rest} left" if left else "")
