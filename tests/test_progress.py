"""How far long work is: who is told, where and when."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from aosa_fast import Config, Explainer, InputError, StreamingExplainer, compare, explain, progress
from aosa_fast.evaluation import Settings, evaluate, parse_entries
from aosa_fast.metrics import sanity_check
from aosa_fast.models import Classifier
from aosa_fast.service.engine import Engine
from aosa_fast.service.metrics import ServiceMetrics
from aosa_fast.service.settings import Limits
from evaluation_cases import classifier, memory
from small_nets import make_net, make_preprocessing, make_video

STEPS, BEFORE = 20, 2  # tubes of `make_video` at this stride, and forwards of the whole clip before them
SWEEP: dict[str, Any] = {"method": "aosa", "stride": 8, "partners": 0, "batch_size": 1}
FLOW = torch.zeros(1, 3, 32, 40, 2)


class Screen(io.StringIO):
    """A terminal, or what is none."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal or super().isatty()  # which fails where it is closed


class Slow(nn.Module):
    """A network that takes its seconds for each batch by the clock of its test."""

    def __init__(self, clock: SimpleNamespace, seconds: float = 1.0, fails: Any = None, net: Any = None) -> None:
        super().__init__()
        self.net, self.clock, self.seconds, self.fails = net or make_net(), clock, seconds, fails
        self.calls = 0

    def forward(self, video: Tensor) -> Tensor:
        self.calls += 1
        self.clock.now += self.seconds
        if self.fails and self.calls > BEFORE + STEPS // 2:
            raise self.fails
        logits: Tensor = self.net(video)
        return logits


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Screen]:
    for name, value in (("TERM", "xterm"), ("COLUMNS", "100")):
        monkeypatch.setenv(name, value)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)

    def show(*, terminal: bool) -> Screen:
        monkeypatch.setattr(sys, "stderr", Screen(terminal))
        return sys.stderr  # type: ignore[return-value]

    return show


def sweep(net: nn.Module, **options: Any) -> Any:
    return explain(net, make_video(), 0, flow=FLOW, **{**SWEEP, **options})


def test_what_takes_long_shows_itself_on_a_terminal_and_is_wiped_away(clock, screen) -> None:
    seen = screen(terminal=True)
    sweep(Slow(clock))
    text = seen.getvalue()
    assert "aosa" in text
    assert f"{STEPS}/{STEPS}" in text
    assert not re.search(rf"\b1/{STEPS}", text)  # no more than three seconds had gone by
    assert text.endswith("\x1b[2K")  # the line is empty again
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # and the cursor there


@pytest.mark.parametrize(
    ("seconds", "terminal", "options"),
    [
        (0.1, True, {}),
        (1, False, {}),
        (9, True, {"progress": False}),
        (9, True, {"progress": lambda done, total: None}),
        (9, True, {"method": "aosa-approx"}),
    ],
    ids=["fast", "no terminal", "False", "a function", "no steps"],
)
def test_nothing_is_shown(clock, screen, seconds, terminal, options) -> None:
    seen = screen(terminal=terminal)
    sweep(Slow(clock, seconds), **options)
    assert seen.getvalue() == ""


def test_what_is_asked_for_is_shown_at_once_and_stays(clock, screen) -> None:
    seen = screen(terminal=True)
    sweep(Slow(clock, 0), progress=True)
    assert f"1/{STEPS}" in seen.getvalue()
    assert f"{STEPS}/{STEPS}" in seen.getvalue().splitlines()[-2]  # after it, the cursor comes back


def test_what_is_asked_for_is_a_line_now_and_then_without_a_terminal(clock, screen) -> None:
    seen = screen(terminal=False)
    sweep(Slow(clock, 20), progress=True)
    lines = seen.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [f"{done}/{STEPS} aosa" for done in range(1, STEPS, 2)]
    assert lines[-1] == f"{STEPS - 1}/{STEPS} aosa, 0.1/s, 0:00:20 left"


@pytest.mark.parametrize("fails", [ValueError("no"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
def test_where_the_work_ends_early_the_bar_does_and_the_next_one_shows(clock, screen, fails) -> None:
    seen, threads = screen(terminal=True), threading.active_count()
    with pytest.raises((InputError, KeyboardInterrupt)):
        sweep(Slow(clock, fails=fails))
    assert seen.getvalue().count("\x1b[?25l") == seen.getvalue().count("\x1b[?25h") == 1
    assert threading.active_count() <= threads, threading.enumerate()
    seen = screen(terminal=True)
    sweep(Slow(clock))
    assert f"{STEPS}/{STEPS}" in seen.getvalue()


def test_ctrl_c_while_a_bar_comes_up_leaves_a_terminal_with_its_cursor(clock, screen, monkeypatch) -> None:
    seen = screen(terminal=True)

    def press(text: str) -> int:
        if "\x1b[?25l" in seen.getvalue():
            monkeypatch.setattr(seen, "write", lambda text: Screen.write(seen, text))
            raise KeyboardInterrupt
        return Screen.write(seen, text)

    monkeypatch.setattr(seen, "write", press)
    with pytest.raises(KeyboardInterrupt):
        sweep(Slow(clock))
    assert seen.getvalue().count("\x1b[?25l") == seen.getvalue().count("\x1b[?25h") == 1


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "nobody reads"])
def test_a_stderr_that_is_gone_stops_no_work(clock, screen, monkeypatch, terminal, closed) -> None:
    def gone(text: str) -> int:
        raise OSError(errno.EIO, text) if terminal else BrokenPipeError(text)

    seen = screen(terminal=terminal)
    if closed:
        seen.close()
    else:
        monkeypatch.setattr(seen, "write", gone)
    told: list[int] = []
    sweep(Slow(clock, 20), progress=True)
    sweep(Slow(clock, 20), progress=lambda done, total: told.append(done))
    assert told[-1] == STEPS


def test_lines_that_nobody_reads_end_no_program(clock, screen, monkeypatch) -> None:
    monkeypatch.setattr(seen := screen(terminal=False), "write", lambda text: os.write(pipe, text.encode()))
    read, pipe = os.pipe()
    os.close(read)
    with progress.show_progress(True, "clips", Console(file=seen)) as step:
        for done in range(3):
            clock.now += 40
            step(done, 3)
    os.close(pipe)


@pytest.mark.parametrize("inner", [None, True, False])
def test_work_inside_of_other_work_shows_nothing_of_its_own_but_keeps_the_other_going(clock, screen, inner) -> None:
    seen = screen(terminal=True)
    one = lambda net, video, target: explain(net, video, target, flow=FLOW, progress=inner, **SWEEP).saliency  # noqa: E731
    stages = len(sanity_check(Slow(clock, 0), make_video(), 0, one))
    assert seen.getvalue() == ""
    net, asked = Slow(clock, 0.2), []

    def slow(*given: Any) -> Any:
        clock.now += 5 * (not asked)
        asked.append(seen.getvalue())
        return one(*given)

    sanity_check(net, make_video(), 0, slow, progress=None)
    assert (f"0/{stages}" in asked[1]) == (inner is not False)  # while the first network was explained
    assert "aosa" not in seen.getvalue()
    assert seen.getvalue().count("\x1b[?25l") == 1


def test_threads_show_one_bar_at_a_time(clock, screen) -> None:
    seen, meet = screen(terminal=True), threading.Barrier(2, timeout=60)

    class Meeting(Slow):
        def forward(self, video: Tensor) -> Tensor:
            if self.calls == BEFORE + STEPS // 2:
                meet.wait()  # both are shown, if they are
            return super().forward(video)

    with (
        ThreadPoolExecutor(2) as pool,
        Explainer(Meeting(clock), **SWEEP) as one,
        Explainer(Meeting(clock), **SWEEP) as two,
    ):
        list(pool.map(lambda explainer: explainer(make_video(), 0, flow=FLOW), (one, two)))
    assert "\x1b[?25l" in seen.getvalue()
    assert re.findall(r"\x1b\[\?25[lh]", seen.getvalue()) == ["\x1b[?25l", "\x1b[?25h"] * (
        seen.getvalue().count("\x1b[?25h")
    )


def test_other_processes_of_the_program_leave_its_terminal_and_its_notebook_alone(clock, screen, monkeypatch) -> None:
    monkeypatch.setattr(progress, "parent_process", lambda: "the program")
    seen = screen(terminal=True)
    sweep(Slow(clock))
    shell = SimpleNamespace(kernel="which a forked process cannot speak for")
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    sweep(Slow(clock))
    assert seen.getvalue() == ""


def test_a_function_is_called_with_a_text_only_if_it_takes_one(tmp_path) -> None:
    told: list[tuple[Any, ...]] = []
    entries, settings = parse_entries(["random", "centre"], Config()), Settings(metrics=("pointing",), block=7)
    two = lambda done, total: told.append((done, total))  # noqa: E731
    evaluate(memory(), classifier(), entries, tmp_path / "one", settings, progress=two)
    assert told == [(0, 2), (1, 2)]
    evaluate(memory(), classifier(), entries, tmp_path / "two", settings, progress=lambda *step: told.append(step))
    assert told[2:] == [(0, 2, "random, clip 1 of 7"), (1, 2, "centre, clip 1 of 7")]


def test_an_evaluation_shows_one_bar(clock, screen, tmp_path) -> None:
    seen, model = screen(terminal=True), classifier()
    model = replace(model, network=Slow(clock, net=model.network))
    entries = parse_entries(["aosa"], Config(stride=8, batch_size=1))
    evaluate(memory(), model, entries, tmp_path, Settings(metrics=("pointing",), block=4))
    assert "0/2" in seen.getvalue()  # while the first block is explained
    assert "2/2" in seen.getvalue()
    assert seen.getvalue().count("\x1b[?25l") == 1


def test_a_comparison_shows_one_bar(clock, screen) -> None:
    seen = screen(terminal=True)
    compare(Slow(clock), make_video(), "aosa,random", 0, flow=FLOW, stride=8, batch_size=1)
    assert "compare: aosa" in seen.getvalue()  # while the first method is at work
    assert "2/2" in seen.getvalue()
    assert seen.getvalue().count("\x1b[?25l") == 1


def test_a_warmup_says_which_batches_it_has_tried(clock, screen) -> None:
    seen, told = screen(terminal=True), []
    with Explainer(Slow(clock), frames=4, size=(32, 40), clips=2) as explainer:
        explainer.warmup()
        assert "warmup" in seen.getvalue()
        assert "3/3" in seen.getvalue()
        explainer.warmup(progress=lambda *step: told.append(step))
    assert told == [(0, 3), (1, 3), (2, 3)]


def test_streams_and_the_service_show_nothing(clock, screen) -> None:
    seen = screen(terminal=True)
    model = Classifier(Slow(clock, 5), make_preprocessing(crop=(32, 40)))
    with StreamingExplainer(model, hop=4, **SWEEP) as stream:
        maps = [stream.push(picture) for picture in np.zeros((4, 32, 40, 3), np.uint8)]
    assert maps[-1] is not None
    engine = Engine(model, Limits(batch=1), ServiceMetrics(), config=Config(**SWEEP))
    try:
        engine.warmup()
        engine.submit(np.zeros((4, 32, 40, 3), np.uint8), deadline=time.monotonic() + 60).result()
    finally:
        engine.close()
    assert seen.getvalue() == ""


def test_what_is_no_way_to_show_progress_is_refused() -> None:
    with pytest.raises(InputError, match=r"^progress must be True, False, None or a function; got bar$"):
        sweep(make_net(), progress="bar")
