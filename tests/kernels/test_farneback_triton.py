"""The Triton twin of the optical flow, in the interpreter."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from picture_cases import FLOWS, PAPER, moving_texture

pytest.importorskip("triton")

from aosa_fast.kernels import farneback_reference, farneback_triton, pyramid_triton
from aosa_fast.video import read_clip


def twin(frames: Tensor, **parameters: Any) -> Tensor:
    return farneback_triton.farneback(frames, *{**PAPER, **parameters}.values())


def blank(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


# What test_compile.py compiles.
LAUNCHES = {
    "paper": lambda: twin(blank(1, 16, 112, 112)),
    "slowfast": lambda: twin(blank(1, 32, 256, 256)),
    "single": lambda: twin(blank(1, 8, 224, 224)),
    "odd": lambda: twin(blank(2, 3, 67, 75)),
    "one-pixel": lambda: twin(blank(1, 2, 1, 1)),
    "most": lambda: twin(blank(1, 3, 67, 80), pyr_scale=0.8, winsize=101, poly_n=60, poly_sigma=9.0),
}

# The interpreter is too slow for the others.
SMALL = [
    case
    for case in FLOWS
    if math.prod(case.values[0]) <= 2 * 48 * 56
    and all(case.values[1].get(name, 0) <= most for name, most in {"poly_n": 7, "winsize": 21, "iterations": 3}.items())
]
LIGHT = {"winsize": 7, "iterations": 2, "poly_n": 2}
MORE = [
    pytest.param((2, 2, 67, 64), {"winsize": 9, "iterations": 1, "poly_n": 3}, id="two-levels"),
    pytest.param((1, 2, 52, 51), {"pyr_scale": 0.8, "iterations": 1, "poly_n": 3}, id="three-levels-by-0.8"),
    pytest.param((2, 3, 33, 35), {"iterations": 1}, id="batch-odd"),
    pytest.param(
        (1, 2, 13, 12),
        {"poly_n": 14, "poly_sigma": 2.0, "iterations": 1},
        id="windows-larger-than-the-frame",
    ),
]


@pytest.fixture(autouse=True)
def large_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes its time by the program, not by the pixel."""
    monkeypatch.setitem(pyramid_triton.TILE, "ROWS", 64)
    monkeypatch.setitem(pyramid_triton.TILE, "COLUMNS", 64)


def test_some_cases_are_small() -> None:
    assert len(SMALL) > 7


@pytest.mark.parametrize(("shape", "parameters"), [*SMALL, *MORE])
def test_matches_the_reference(shape: tuple[int, ...], parameters: dict[str, Any]) -> None:
    B, T, H, W = shape
    frames = moving_texture(*shape)
    flow, expected = twin(frames, **parameters), farneback_reference.farneback(frames, **parameters)
    assert (flow.dtype, flow.shape) == (torch.float32, (B, T - 1, H, W, 2))
    assert expected.norm(dim=-1).median() > 0.3
    # Worst measured, pixels: 5.5e-6 with a window of 5, else 4.5e-6.
    torch.testing.assert_close(flow.double(), expected, rtol=0, atol=3e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 23), (19, 1), (7, 9)], ids=str)
def test_tiny_frames_match_the_reference(size: tuple[int, int]) -> None:
    frames = moving_texture(1, 2, *size)
    flow, expected = twin(frames, iterations=2), farneback_reference.farneback(frames, iterations=2)
    # Worst measured: 1.4e-8.
    torch.testing.assert_close(flow.double(), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "start"), [("ucf101/jpg/CliffDiving/v_CliffDiving_g01_c01", 2), ("kinetics/arm_wrestling.mp4", 117)]
)
def test_real_frames_match_opencv(shared_data: Path, name: str, start: int) -> None:
    clip = read_clip(shared_data / name, 2, start=start, stride=4)
    first, second = (cv2.cvtColor(cv2.resize(f, (112, 112)), cv2.COLOR_RGB2GRAY)[30:94, 20:84] for f in clip.frames)
    expected = cv2.calcOpticalFlowFarneback(first, second, None, *PAPER.values(), 0)
    flow = twin(torch.from_numpy(np.stack([first, second])[None]))[0, 0]
    distance = np.linalg.norm(flow.numpy() - expected, axis=-1)
    assert np.linalg.norm(expected, axis=-1).mean() > 0.1
    # Worst measured: 6.6e-7, and 6.8e-5 for 99 %; 4.1e-4 at one pixel.
    assert np.median(distance) < 6e-6
    assert np.quantile(distance, 0.99) < 6e-4


def test_tiles_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = moving_texture(1, 2, 37, 50)
    at_once = twin(frames, **LIGHT)
    assert torch.equal(twin(frames, **LIGHT), at_once)
    monkeypatch.undo()
    assert pyramid_triton.TILE["ROWS"] < 37
    assert pyramid_triton.TILE["COLUMNS"] < 50
    assert torch.equal(twin(frames, **LIGHT), at_once)


def test_pairs_and_clips_do_not_mix() -> None:
    frames = moving_texture(2, 3, 33, 35)
    flow = twin(frames, **LIGHT)
    alone = [twin(clip[None, t : t + 2], **LIGHT)[:, 0] for clip in frames for t in range(2)]
    assert torch.equal(flow.flatten(0, 1), torch.cat(alone))
    assert not torch.equal(flow[0], flow[1])


def test_frames_may_have_any_strides() -> None:
    frames = moving_texture(1, 2, 33, 35)
    other = frames.mT.contiguous().mT
    assert not other.is_contiguous()
    assert torch.equal(twin(other, **LIGHT), twin(frames, **LIGHT))


def test_one_frame_has_no_flow() -> None:
    assert twin(blank(2, 1, 33, 35)).shape == (2, 0, 33, 35, 2)
    assert twin(blank(0, 3, 33, 35)).shape == (0, 2, 33, 35, 2)


def test_a_flow_that_leads_anywhere_stays_in_the_frame(pytestconfig: pytest.Config) -> None:
    """The first matrices, from flows that are not finite, that no integer holds, and that end on the borders."""
    h, w = 11, 13
    flow = torch.randn(1, h, w, 2, generator=torch.Generator().manual_seed(0)) * 4
    wild = [float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 2.0**31, -(2.0**31), 1e20]
    flow[0, 2, : len(wild), 0] = torch.tensor(wild)
    flow[0, 4, : len(wild), 1] = torch.tensor(wild)
    flow[0, 6, :, 0] = w - 1 - torch.arange(w)  # to the last column, where no pixel is right of it
    flow[0, 7, :, 0] = -torch.arange(w)  # to the first
    flow[0, 8, :, 1] = h - 1 - 8
    flow[0, 9, :, 1] = -9
    expansion = torch.randn(5, 2, h, w, generator=torch.Generator().manual_seed(1))
    M = torch.full((5, 1, h, w), 777.0)
    taps = [table for size in (h, w) for table in (torch.arange(size, dtype=torch.int32)[None], torch.ones(1, size))]
    tensors = [tensor.to(pytestconfig.getoption("--device")) for tensor in (flow, *taps, expansion, M)]
    with np.errstate(over="ignore", invalid="ignore"):
        farneback_triton._start[(1,)](
            *(*tensors, 1, 2, 1, h, w, h, w),
            **{"TAPS": 1, "ROWS": 16, "COLUMNS": 16, "enable_fp_fusion": False},
        )
    M = tensors[-1].cpu()
    there = flow[0].permute(2, 0, 1).double()
    expected = farneback_reference.matrices(expansion[:, 0].double(), expansion[:, 1].double(), there)
    finite = there.abs().amax(0) < 1e6
    assert int(finite.sum()) == h * w - 2 * len(wild)
    # Worst measured: 4.1e-7.
    torch.testing.assert_close(M[:, 0, finite].double(), expected[:, finite], rtol=0, atol=4e-6)
