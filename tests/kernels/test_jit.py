"""Numba where it pays, and where its compiled code can be kept; the same bits in any case."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import jit
from aosa_fast.kernels.partners import select_partners
from aosa_fast.kernels.tracking import track_anchors
from track_cases import PARTNERS, TRACKS, make_flow

CODE = """
from aosa_fast.kernels.jit import jit
@jit("(int64,)")
def following(number):
    return number + 1
"""
EXPLAINS = """
import sys, torch, aosa_fast
net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(2), torch.nn.Flatten(), torch.nn.Linear(24, 3))
found = aosa_fast.explain(net, torch.rand(1, 3, 8, 112, 112), stride=8)
print(*({"numba", "cv2", "scipy", "torch._dynamo", "triton"} & set(sys.modules)), len(found.scores[0]))
"""


def tiers(monkeypatch: pytest.MonkeyPatch, run: Callable[[], tuple[Tensor, ...]]) -> None:
    """NumPy's result and Numba's are the same."""
    results = []
    for patience in (math.inf, -1):
        monkeypatch.setattr(jit, "PATIENCE", patience)
        results.append(run())
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(("flow", "stride", "reseed"), TRACKS)
def test_tracks_have_the_same_bits(flow: Tensor, stride: int, reseed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = flow.clone()
    flow[:, :, 3:5, 3:5, 1], flow[:, :, 6::5, 5::6, 0] = torch.nan, torch.inf  # of which 0 times is not a number
    tiers(monkeypatch, lambda: track_anchors(flow, stride, reseed))


@pytest.mark.parametrize(("tracks", "K", "min_motion"), PARTNERS)
def test_partners_have_the_same_bits(
    tracks: Tensor, K: int, min_motion: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers(monkeypatch, lambda: (select_partners(tracks, K, min_motion),))


def test_numba_is_loaded_once_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "PATIENCE", jit._spent + 1)
    module = "aosa_fast.kernels.tracking_numba"
    assert [jit.compiled(module, seconds) is not None for seconds in (0.4, 0.4, 0.4, 0.0)] == [False, False, True, True]


def test_a_first_explanation_waits_for_no_library() -> None:
    done = subprocess.run([sys.executable, "-P", "-c", EXPLAINS], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "196", done.stderr


def follow(path: Path) -> int:
    scope = {"__name__": "kept"}
    exec(compile(CODE, str(path), "exec"), scope)
    return scope["following"](3)


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "_told", set())


def damage(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def obstruct(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("happens", [damage, obstruct])
@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_what_is_wrong_with_the_kept_code_is_one_warning(
    happens: Callable[[Path], None], suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / "kept.py"
    path.write_text(CODE)
    assert follow(path) == 4
    (file,) = tmp_path.rglob(f"*{suffix}")
    happens(file)
    with pytest.warns(UserWarning, match=r"^Numba keeps no compiled code \(.+\): every process compiles") as told:
        assert follow(path) == 4
    assert len(told) == 1


def test_no_place_for_compiled_code_is_one_warning() -> None:
    with pytest.warns(UserWarning, match="^Numba keeps no compiled code .*no locator available") as told:
        assert [follow(Path("<nowhere>")) for _ in range(2)] == [4, 4]
    assert len(told) == 1


TRITON = """
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from aosa_fast.kernels.jit import place_triton_cache
@triton.jit
def one(x):
    tl.store(x, 1)
place_triton_cache()
triton.compile(ASTSource(one, {"x": "*i32"}), target=GPUTarget("cuda", 80, 32))
"""


@pytest.mark.parametrize("variable", ["HOME", "TRITON_CACHE_DIR"])
def test_triton_compiles_where_it_cannot_keep_code(variable: str, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    (tmp_path / "one.py").write_text(TRITON)  # Triton reads a kernel's source from its file
    own = {name: value for name, value in os.environ.items() if not name.startswith("TRITON")}
    done = subprocess.run(
        [sys.executable, "-P", tmp_path / "one.py"],
        capture_output=True,
        text=True,
        check=False,
        env={**own, variable: "/proc/none"},
    )
    assert done.returncode == 0, done.stderr
    assert "Triton keeps no compiled code" in done.stderr


def test_without_numba_numpy_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "PATIENCE", -1)
    monkeypatch.setattr(jit, "_spent", 0.0)
    monkeypatch.delitem(sys.modules, "aosa_fast.kernels.tracking_numba", raising=False)
    monkeypatch.setitem(sys.modules, "numba", None)
    flow = make_flow(1, 4, 9, 9, 1.0)
    with pytest.warns(UserWarning, match="^Numba cannot be imported") as told:
        first, again = track_anchors(flow, 4), track_anchors(flow, 4)
    assert len(told) == 1
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
