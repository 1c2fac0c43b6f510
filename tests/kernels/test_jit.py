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
from track_cases import PARTNERS, TRACKS

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
    jit.preload().join()
    results = []
    for patience in (math.inf, -1):
        monkeypatch.setattr(jit, "PATIENCE", patience)
        assert (jit.compiled("aosa_fast.kernels.tracking_numba") is None) == (patience > 0)
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


def in_process(code: str, **environment: str) -> str:
    """What Python code prints, in a process of its own that ends well, and what it warns of."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


LOADS = """
import sys, time
from aosa_fast.kernels import jit
def work(seconds):
    start = time.perf_counter()
    found = jit.compiled("aosa_fast.kernels.tracking_numba")
    waited = time.perf_counter() - start > 0.3
    with jit.working():
        time.sleep(seconds)
    return "waited" if waited else "NumPy" if found is None else "Numba"
"""


def test_numba_is_loaded_once_it_pays_and_nobody_waits_for_it() -> None:
    code = "print(work(0.3), work(0.3), 'numba' in sys.modules, work(0)); jit.preload().join(); print(work(0))"
    assert in_process(LOADS + code) == "NumPy NumPy False NumPy\nNumba\n"


def test_numba_is_loaded_at_once_where_it_is_announced() -> None:
    assert in_process(LOADS + "jit.preload(); print(work(0)); jit.preload().join(); print(work(0))") == "NumPy\nNumba\n"


@pytest.mark.parametrize("seconds", [0.2, 1.2])
def test_a_program_may_end_while_numba_is_loaded(seconds: float, tmp_path: Path) -> None:
    code = f"import time, torch; from aosa_fast.kernels import jit; jit.preload(); time.sleep({seconds})"
    assert in_process(code, NUMBA_CACHE_DIR=str(tmp_path)) == ""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_fork_meanwhile_has_numba_too() -> None:
    code = "import os; jit.preload(); pid = os.fork(); pid and os.wait(); print(work(0))"
    assert in_process(LOADS + code) == "Numba\nNumba\n"


def test_nowhere_to_cache_is_one_warning_and_numba_all_the_same() -> None:
    nowhere = "import numba.core.caching; numba.core.caching.CacheImpl._locator_classes = []\n"
    told = in_process(nowhere + LOADS + "jit.preload().join(); print(work(0))")
    assert told.startswith("Numba\n")
    assert told.count("Numba keeps no compiled code") == 1


def test_numba_leaves_the_streams_of_other_threads_alone() -> None:
    # Colorama sets sys.stdout and sys.stderr, as Numba has it do for each of its own errors.
    colours = "from unittest.mock import MagicMock; sys.modules['colorama'] = MagicMock(__version__='0.4.6'); "
    code = "jit.preload().join(); print(work(0), sys.modules['colorama'].init.called)"
    assert in_process(f"import sys; {colours}{LOADS}{code}") == "Numba False\n"


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


def test_without_numba_numpy_goes_on() -> None:
    code = """
import sys, torch, warnings
sys.modules["numba"] = None
from aosa_fast.kernels import jit
from aosa_fast.kernels.tracking import track_anchors
warnings.simplefilter("always")
jit.PATIENCE = -1
flow = torch.full((1, 3, 9, 9, 2), 0.5)
for _ in range(3):
    print(float(track_anchors(flow, 4)[0].sum()))
    jit.preload().join()
"""
    lines = in_process(code).splitlines()
    assert len(set(lines[:3])) == 1
    assert sum("Numba cannot be imported" in line for line in lines[3:]) == 1
