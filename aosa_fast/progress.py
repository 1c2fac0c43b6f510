"""How far long work is: a bar in a notebook or on a terminal, a line now and then elsewhere, or a function."""

from __future__ import annotations

import inspect
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from importlib import import_module
from multiprocessing import parent_process
from typing import TYPE_CHECKING, Protocol

from aosa_fast.errors import InputError, brief

if TYPE_CHECKING:
    from rich.console import Console

DELAY = 3.0  # seconds of work of which nothing is shown, unless it is asked for
_EVERY = 30.0  # seconds between the lines
_OFTEN = 0.1  # seconds in which a bar is drawn once
_GONE = OSError, ValueError  # of a stderr that was closed, at either end: that stops no work


class Progress(Protocol):
    """Called now and then during long work, with steps done, steps in all and, if there is more to say, a text."""

    def __call__(self, done: int, total: int, what: str = "", /) -> None:
        """Shows it."""


Report = bool | Progress | Callable[[int, int], None]
_Draw = Callable[[int, int, str, str, float], None]  # done, in all, the text, the pace, the time

_around: ContextVar[Callable[..., None] | None] = ContextVar("around", default=None)
_screen = threading.Lock()  # of the one display that is seen


@contextmanager
def show_progress(progress: Report | None, title: str, console: Console | None = None) -> Iterator[Progress]:
    """Gives a function that shows how far work is; its first call may come before any step.

    Work inside of other work shows nothing of its own: its steps keep the other's display up to date, unless `progress`
    is False. Where several threads work, one is shown at a time.

    Args:
        progress: True shows it at once, where there is no bar as a line every half minute; None where somebody sees a
            bar, from the first step on that is done after three seconds of work; False never. A function is called
            itself, with a text only if it takes one.
        title: what the work is.
        console: where to show it. Default: the notebook, or stderr.

    Raises:
        InputError: `progress` is none of these.
    """
    display = None
    step: Callable[..., None] = _nothing
    inner = _around.get() or _nothing
    if callable(progress):
        step = _taking_text(progress)
    elif progress is False:
        inner = _nothing  # as where seconds are measured
    elif progress is not None and progress is not True:
        raise InputError(f"progress must be True, False, None or a function; got {brief(progress)}")
    elif _around.get():
        step = inner
    else:
        display = _Display(title, console, asked=progress is True)
        step, inner = display.show, display.again
    token = _around.set(inner)
    try:
        if display and progress:
            display.open()
        yield step
        if display:
            display.again(done=True)
    finally:
        _around.reset(token)
        if display:
            display.close()


class _Display:
    """What is seen of one piece of work, if anything is."""

    def __init__(self, title: str, console: Console | None, *, asked: bool) -> None:
        self._title, self._console, self._asked = title, console, asked
        self._begun = time.monotonic()
        self._first: tuple[int, float] | None = None  # what was done by then does not count for the pace
        self._last = (0, 1, "")
        self._draw: _Draw | None = None
        self._drawn = -_OFTEN
        self._opened = ExitStack()

    def show(self, done: int, total: int, what: str = "", /) -> None:
        """Shows it, if it is time to and somebody sees it."""
        now = time.monotonic()
        self._first, self._last = self._first or (done, now), (done, total, what)
        with suppress(*_GONE):
            if self._draw is None and done < total and (self._asked or now - self._begun > DELAY):
                self.open()
            if self._draw is not None and (now - self._drawn >= _OFTEN or done >= total):
                self._drawn = now
                text = f"{self._title}: {what}" if what else self._title
                self._draw(done, total, text, _pace(done - self._first[0], total - done, now - self._first[1]), now)

    def again(self, *_: object, done: bool = False) -> None:
        """The same once more, or the end."""
        if self._first or (done and self._draw):
            self.show(self._last[1] if done else self._last[0], *self._last[1:])

    def close(self) -> None:
        """Ends what was begun."""
        with suppress(*_GONE):
            self._opened.close()

    def open(self) -> None:
        """Begins, where somebody sees it or it is asked for, and no other one is seen."""
        with suppress(*_GONE):
            notebook = self._console is None and in_notebook()
            # The processes of one program share its terminal; a forked one could not speak for the notebook's.
            seen = parent_process() is None and (notebook or _is_terminal())
            if (self._asked or seen) and _screen.acquire(blocking=False):
                self._opened.callback(_screen.release)
                draw = _in_cell(self._opened, keep=self._asked) if notebook else None
                self._draw = draw or _on_console(self._opened, self._title, self._console, keep=self._asked)


def _is_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def in_notebook() -> bool:
    """Whether a notebook shows what is displayed, be it Jupyter's or another that speaks with a kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")  # in a terminal, IPython has none


def _in_cell(opened: ExitStack, *, keep: bool) -> _Draw | None:
    """A bar of tqdm's, which is text where there are no ipywidgets; None without tqdm."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tqdm, where there are none
        try:
            tqdm = import_module("tqdm.auto").tqdm
        except ImportError:
            return None
    bar = None

    def draw(done: int, total: int, text: str, pace: str, now: float) -> None:
        nonlocal bar
        if bar is None:
            kind = type("Bar", (tqdm,), {"monitor_interval": 0})  # a thread less, which would stay
            bar = kind(desc=text, total=total, initial=done, leave=keep)
            opened.callback(bar.close)
        if bar.total != total:
            bar.reset(total)
        bar.n = done
        bar.set_description(text)

    return draw


def _on_console(opened: ExitStack, title: str, console: Console | None, *, keep: bool) -> _Draw:
    """A bar of rich's on a terminal, and lines elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    ours = console is not None  # the program is ours, and so are its other streams and threads
    # Kernels ask for colours of what is no terminal, which rich would take for one.
    console = console or Console(stderr=True, force_jupyter=False, force_terminal=_is_terminal())
    if console.is_terminal:
        text, pace = (TextColumn(f"{{task.{name}}}", markup=False) for name in ("description", "fields[pace]"))
        bar = Bar(
            text, BarColumn(), MofNCompleteColumn(), pace, console=console, transient=not keep, auto_refresh=ours,
            redirect_stdout=ours, redirect_stderr=ours,
        )  # fmt: skip
        opened.callback(bar.stop)  # also where Ctrl-C comes while it starts: the cursor is hidden by then
        bar.start()
        task = bar.add_task(title, total=None, pace="")
        return lambda done, total, text, pace, now: bar.update(
            task, completed=done, total=total, description=text, pace=pace, refresh=True
        )
    said = time.monotonic()

    def write(done: int, total: int, text: str, pace: str, now: float) -> None:
        nonlocal said
        if now - said > _EVERY:
            said = now
            # What rich prints would end the program where nobody reads it.
            console.file.write(f"{done}/{total} {text}{pace and ', '}{pace}\n")

    return write


def _pace(done: int, left: int, seconds: float) -> str:
    """Steps per second, and how long the others will take at that."""
    if done <= 0 or seconds <= 0:
        return ""
    rest = timedelta(seconds=round(left * seconds / done))
    return f"{done / seconds:.1f}/s" + (f", {rest} left" if left else "")


def _taking_text(function: Callable[..., None]) -> Progress:
    try:
        inspect.signature(function).bind(0, 1, "")
    except (TypeError, ValueError):  # the latter: of a builtin, nothing is known
        return lambda done, total, what="", /: function(done, total)
    return function


def _nothing(*_: object) -> None:
    """Shows nothing."""
