"""The GPU benchmark, rehearsed: it must run on the day that a GPU is there."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from aosa_fast.bench.registry import chosen_parts
from aosa_fast.bench.rows import read_rows
from aosa_fast.bench.run import run_on, run_parts
from aosa_fast.errors import InputError

pytest.importorskip("triton")

TARGETS = (
    "together, 1 clip, s=4, kernels",
    "together, 2 clips, s=4, of copy bandwidth",
    "farneback, 1 x 1 pair of 8x8, queue of calls",
    "farneback, 1 x 1 pair of 9x9, queue of calls",
    "AOSA-approx, R3D-50 (tiny) s=8, float32, host to host",
    "AOSA-approx, R3D-50 (tiny) s=4, float32, host to host",
    "exact AOSA, R3D-50 (tiny) s=8, bfloat16, host to host",
)


@pytest.fixture
def bench() -> SimpleNamespace:
    """The benchmark's modules."""
    names = ("bench", "cases", "check", "clock", "functions", "operators", "plan", "timesformer")
    return SimpleNamespace(**{name: import_module(f"aosa_fast.bench.gpu.{name}") for name in names})


def test_a_rehearsal_runs_every_part_and_judges_every_target(
    bench: SimpleNamespace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    suites = ["table5", "stages"]
    assert run_on(bench.bench.rehearsal(), chosen_parts(suites, cuda=True), json=tmp_path / "run.json") == 0
    said = capsys.readouterr().out
    headings = ("Checks against", "AOSA-approx, R3D-50 (tiny), from", "AOSA-approx, TimeSformer (tiny), from")
    headings += ("Exact AOSA, ", "Peak memory of", "Device-to-device copy", "Operators, ", "Optical flow")
    headings += ("Stages of AOSA-approx", "Targets")
    places = [said.index(f"\n{heading}") for heading in headings]
    assert places == sorted(places)
    targets = said.split("\nTargets\n")[1].splitlines()
    for target in TARGETS:
        assert sum(line.strip().startswith(target) for line in targets) == 1, target
    assert all(line.endswith("meaningless: a rehearsal") for line in targets if line)
    rows = read_rows(tmp_path / "run.json")
    assert len(rows) > 200
    assert {row["part"] for row in rows} == {"approx", "exact", "memory", "copy", "operators", "flow", "stages"}
    assert all(row["machine"].startswith("no GPU, Triton") for row in rows)


def not_a_number(scores: Tensor) -> Tensor:
    return scores.index_fill(1, torch.tensor([0]), torch.nan)


def moving(scores: Tensor) -> Tensor:
    moving.calls = getattr(moving, "calls", 0) + 1  # type: ignore[attr-defined]
    return scores * (1 + 1e-6 * moving.calls)  # type: ignore[attr-defined]


def broken(scores: Tensor) -> Tensor:
    raise RuntimeError("no kernel image is available\nand more")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda scores: scores * 1.001, "CPU: error 1.00e-03 of the largest value"),
        (not_a_number, "CPU: error nan"),
        (moving, "two runs must have the same bits"),
        (broken, "RuntimeError: no kernel image is available"),
    ],
    ids=["wrong", "nan", "moving", "broken"],
)
def test_a_wrong_operator_is_named_and_nothing_is_timed(
    bench: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Tensor], Tensor],
    message: str,
) -> None:
    device = bench.bench.rehearsal()
    right = bench.functions.public()["tube_scores"]
    device.functions["tube_scores"] = lambda *arguments: damage(right(*arguments))
    few = [case for case in bench.cases.cases(bench.plan.REHEARSAL) if case.operator == "tube_scores"]
    monkeypatch.setattr(bench.check, "cases", lambda _: few)
    assert run_on(device, chosen_parts([], cuda=True)) == 1
    said = capsys.readouterr()
    assert said.err.count("not timed: tube_scores, ") == len(few)
    assert message in said.err
    assert "copy" not in said.out


def test_a_part_that_fails_leaves_the_others_running(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench.check, "check", lambda *_: [])
    monkeypatch.setattr(bench.operators, "operators", lambda *_: 1 / 0)
    monkeypatch.setattr(bench.operators, "flow", lambda *_: sys.stdout.write("the flow\n"))
    assert run_on(bench.bench.rehearsal(), chosen_parts(["stages:operators", "stages:flow"], cuda=True)) == 1
    said = capsys.readouterr()
    assert "ZeroDivisionError" in said.err
    assert said.err.endswith("failed: operators\n")
    assert "the flow\n" in said.out


def test_where_it_cannot_run_one_line_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = chosen_parts(["stages:copy"], cuda=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device=cuda must be a GPU that torch can use"):
        run_parts(parts, "cuda", quick=True, json=None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="TRITON_INTERPRET"):  # conftest has set it
        run_parts(parts, "cuda", quick=True, json=None)


def test_floors_are_the_operands_and_the_results(bench: SimpleNamespace) -> None:
    cases, functions = bench.cases, bench.functions
    timed = [case for case in cases.cases(bench.plan.REHEARSAL) if case.floor]
    assert {case.operator for case in timed} == set(functions.public())
    for case in timed:
        tensors = [a for a in case.arguments if isinstance(a, Tensor)]
        found = functions.results(functions.public()[case.operator], case.arguments, case.options)
        written = 0 if case.operator.startswith("occlude") else sum(t.nbytes for t in found)
        counted = sum(t.nbytes for t in tensors) + written
        if case.operator == "track_anchors":
            assert sum(t.nbytes for t in found) < case.floor <= counted
        else:
            assert case.floor == counted, case.name


def test_timesformer_is_the_papers(bench: SimpleNamespace) -> None:
    with torch.device("meta"):
        whole = bench.timesformer.TimeSformer()
    assert 121e6 < sum(p.numel() for p in whole.parameters()) < 122e6
    sizes = {"classes": 5, "frames": 3, "side": 32, "width": 16, "depth": 2, "heads": 4}
    model = bench.timesformer.timesformer(**sizes)
    video = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)
    logits = model(video)
    assert logits.shape == (2, 5)
    (grad,) = torch.autograd.grad(logits[0].sum(), video)
    assert (grad[0] != 0).float().mean() > 0.99  # every pixel of every frame counts
    assert not grad[1].any()


class Event:
    """A CUDA event by the wall clock."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = time.perf_counter()

    def elapsed_time(self, other: Event) -> float:
        return 1e3 * (other.at - self.at)


class Graph:
    """A CUDA graph that plays nothing."""

    replays = 0

    def replay(self) -> None:
        Graph.replays += 1
        time.sleep(0.003)


@pytest.fixture
def clock(bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Any:
    @contextmanager
    def capture(_: Graph) -> Iterator[None]:
        yield

    properties = SimpleNamespace(name="NVIDIA Test", L2_cache_size=50 * 2**20)
    fakes = {"Event": Event, "CUDAGraph": Graph, "graph": capture, "current_device": lambda: 0}
    fakes |= {"synchronize": lambda _: None, "get_device_properties": lambda _: properties}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return bench.clock.Clock()


def test_calls_rotate_and_their_results_stay(clock: Any) -> None:
    called: list[int] = []
    calls = [lambda i=i: called.append(i) or time.sleep(0.001) for i in range(3)]
    seconds = clock.queue(calls, 7)
    assert called[:3] == [0, 1, 2]
    assert called[-7:] == [0, 1, 2, 0, 1, 2, 0]
    assert len(seconds) == 7
    assert all(0.001 <= s < 0.1 for s in seconds)
    seconds = clock.replay(calls, 4)
    assert Graph.replays == 6
    assert len(seconds) == 4
    assert all(0.001 <= s < 0.1 for s in seconds)  # of one of the three calls
    assert [clock.sets(size) for size in (10, 10 * 2**20, 2**30)] == [64, 10, 2]
    assert clock.accelerator.startswith("NVIDIA Test, driver ")
    assert "Triton" in clock.accelerator
