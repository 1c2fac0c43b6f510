"""How far a long command is: a bar on a terminal, a line every half minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.text import Text

from aosa_fast.inference.timing import Progress

_EVERY = 30.0  # seconds between the lines


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.1f}/s" if task.speed else "", style="progress.data.speed")


@contextmanager
def show_progress(console: Console, title: str) -> Iterator[Progress]:
    """Gives a function that shows how far it is, called with (done, in all) and, if there is more to say, a text."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    ]
    bar = Bar(*columns, console=console, disable=not console.is_terminal)
    # Not begun where nobody sees it: rich before 14.1 ends with an empty line all the same.
    with nullcontext() if bar.disable else bar:
        task = bar.add_task(title, total=None)
        said = time.monotonic()

        def show(done: int, total: int, what: str = "", /) -> None:
            nonlocal said
            text = f"{title}: {what}" if what else title
            bar.update(task, completed=done, total=total, description=text)
            if bar.disable and time.monotonic() - said > _EVERY:
                said = time.monotonic()
                console.print(f"{done}/{total} {text}", highlight=False, markup=False, soft_wrap=True)

        yield show
        bar.update(task, completed=bar.tasks[0].total or 1, total=bar.tasks[0].total or 1)
