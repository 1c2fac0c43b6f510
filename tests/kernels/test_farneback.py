from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from aosa_fast import _C
from aosa_fast.kernels import farneback_reference
from aosa_fast.kernels.farneback import farneback
from aosa_fast.kernels.pyramid import expansion_weights, pyramid
from aosa_fast.video import read_clip
from picture_cases import FLOWS, PAPER, SHIFT, moving_texture

# OpenCV leaves out border factors there (see the operator's note), and one pixel shows no motion.
SMALL = [(1, 1), (1, 9), (9, 1), (2, 2), (7, 30), (9, 9)]


def opencv(frames: Tensor, **parameters: Any) -> Tensor:
    order = tuple({**PAPER, **parameters}.values())
    flow = [
        [cv2.calcOpticalFlowFarneback(a.numpy(), b.numpy(), None, *order, 0) for a, b in pairwise(clip)]
        for clip in frames
    ]
    return torch.from_numpy(np.array(flow))


def error(flow: Tensor, expected: Tensor) -> Tensor:
    """Distance of the end points, pixels."""
    assert flow.shape == expected.shape
    assert torch.isfinite(flow).all()
    return (flow.double() - expected.double()).norm(dim=-1)


@pytest.mark.parametrize(("shape", "parameters"), FLOWS)
def test_matches_the_reference_and_opencv(shape: tuple[int, ...], parameters: dict[str, Any]) -> None:
    frames = moving_texture(*shape)
    flow = farneback(frames, **parameters)
    expected = farneback_reference.farneback(frames, **parameters)
    known = opencv(frames, **parameters)
    assert (flow.dtype, flow.shape) == (torch.float32, (shape[0], shape[1] - 1, *shape[2:], 2))
    assert expected.norm(dim=-1).median() > 0.3
    # Worst measured, pixels: 8.9e-6 by ours and 1.6e-5 by OpenCV, both with a window of 5; else 2.5e-6.
    atol = 5e-5 if parameters.get("winsize") == 5 else 1e-5
    assert error(flow, expected).max() < atol
    assert error(known, expected).max() < 2 * atol
    assert error(flow, known).max() < 2 * atol


@pytest.mark.parametrize("size", SMALL, ids=str)
def test_tiny_frames_match_the_reference(size: tuple[int, int]) -> None:
    frames = moving_texture(1, 2, *size)
    # Worst measured: 8.6e-7.
    assert error(farneback(frames), farneback_reference.farneback(frames)).max() < 5e-6


@pytest.mark.parametrize("size", [(2, 2), (4, 4), (3, 12), (5, 5)], ids=str)
def test_frames_below_six_pixels_match_opencv(size: tuple[int, int]) -> None:
    frames = moving_texture(1, 2, *size)
    assert error(farneback(frames), opencv(frames)).max() < 5e-6


@pytest.mark.parametrize(
    ("name", "start", "stride"),
    [
        pytest.param("ucf101/jpg/CliffDiving/v_CliffDiving_g01_c01", 2, 1, id="ucf101"),
        pytest.param("ucf101/jpg/CliffDiving/v_CliffDiving_g01_c01", 2, 4, id="ucf101-stride-4"),
        pytest.param("kinetics/arm_wrestling.mp4", 117, 2, id="kinetics"),
    ],
)
@pytest.mark.parametrize("side", [112, 256])
def test_real_clips_match_opencv(shared_data: Path, name: str, start: int, stride: int, side: int) -> None:
    clip = read_clip(shared_data / name, 5, start=start, stride=stride)
    grey = [cv2.cvtColor(cv2.resize(frame, (side, side)), cv2.COLOR_RGB2GRAY) for frame in clip.frames]
    frames = torch.from_numpy(np.stack(grey))[None]
    expected = opencv(frames)
    assert expected.norm(dim=-1).mean() > 0.1
    distance = error(farneback(frames), expected).flatten()
    # Worst measured: 2.6e-6 and 0.04. The rest has no texture: there rounding decides, and OpenCV is as far from the
    # reference as from us.
    assert distance.median() < 2e-5
    assert distance.quantile(0.99) < 0.2


def test_finds_a_known_motion() -> None:
    for shift in (SHIFT, (-4.0, 3.0), (0.0, 0.0)):
        flow = farneback(moving_texture(1, 2, 96, 104, shift=shift))
        inside = flow[0, 0, 12:-12, 12:-12]
        assert error(inside, torch.tensor(shift).expand_as(inside)).median() < 0.06


def test_flat_frames_do_not_move() -> None:
    assert not farneback(torch.zeros(1, 3, 70, 48, dtype=torch.uint8)).any()
    assert farneback(torch.full((1, 3, 70, 48), 137, dtype=torch.uint8)).abs().max() < 1e-9


def test_a_flat_frame_among_others_gives_what_opencv_gives() -> None:
    frames = moving_texture(1, 3, 70, 48)
    frames[0, 1] = 137
    flow, expected = farneback(frames), farneback_reference.farneback(frames)
    assert expected.abs().max() > 1
    # Worst measured: 1.1e-5 and 1.2e-5.
    assert error(flow, expected).max() < 1e-4
    assert error(flow, opencv(frames)).max() < 1e-4


def test_one_frame_has_no_flow() -> None:
    for B in (0, 1, 2):
        assert farneback(torch.zeros(B, 1, 8, 9, dtype=torch.uint8)).shape == (B, 0, 8, 9, 2)
    assert farneback(torch.zeros(0, 3, 8, 9, dtype=torch.uint8)).shape == (0, 2, 8, 9, 2)


def test_pairs_and_clips_do_not_mix() -> None:
    frames = moving_texture(2, 4, 40, 48)
    flow = farneback(frames)
    for b in range(2):
        for t in range(3):
            assert torch.equal(farneback(frames[b : b + 1, t : t + 2])[0, 0], flow[b, t])
    changed = frames.clone()
    changed[1, 3] = changed[1, 3].flip(0)
    moved = (farneback(changed) != flow).flatten(2).any(-1)
    assert moved.tolist() == [[False, False, False], [False, False, True]]


def test_the_defaults_are_the_papers() -> None:
    frames = moving_texture(1, 2, 70, 66)
    assert torch.equal(farneback(frames), farneback(frames, **PAPER))
    assert torch.equal(farneback(frames), farneback(frames, levels=2**31 - 1))  # none below 32 pixels
    others = {"pyr_scale": 0.6, "levels": 0, "winsize": 13, "iterations": 2, "poly_n": 4, "poly_sigma": 1.1}
    for name, value in others.items():
        assert not torch.equal(farneback(frames), farneback(frames, **{name: value})), name


def test_a_pyramid_is_made_once_and_cannot_be_changed() -> None:
    levels = pyramid(112, 140, 0.5, 3)
    assert [(level.rows.size, level.columns.size) for level in levels] == [(56, 70), (112, 140)]
    assert pyramid(112, 140, 0.5, 3) is levels
    weights, _ = expansion_weights(5, 1.2)
    for array in (levels[0].rows.index, levels[0].columns.weight, weights):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


FRAMES = torch.zeros(1, 2, 8, 9, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("frames", "parameters", "exception", "message"),
    [
        (FRAMES[0], {}, ValueError, "frames must have shape (B, T, H, W); got (2, 8, 9)"),
        (FRAMES.float(), {}, TypeError, "frames must be torch.uint8; got torch.float32"),
        (FRAMES.numpy(), {}, TypeError, "frames must be a torch.Tensor; got ndarray"),
        (FRAMES[:, :0], {}, ValueError, "frames must have at least one frame and one pixel; got (1, 0, 8, 9)"),
        (FRAMES[:, :, :0], {}, ValueError, "frames must have at least one frame and one pixel; got (1, 2, 0, 9)"),
        (FRAMES[..., :0], {}, ValueError, "frames must have at least one frame and one pixel; got (1, 2, 8, 0)"),
        (FRAMES, {"pyr_scale": 0.0}, ValueError, "pyr_scale must be above 0 and below 1; got 0.0"),
        (FRAMES, {"pyr_scale": 1.0}, ValueError, "pyr_scale must be above 0 and below 1; got 1.0"),
        (FRAMES, {"pyr_scale": float("nan")}, ValueError, "pyr_scale must be above 0 and below 1; got nan"),
        (FRAMES, {"levels": -1}, ValueError, "levels must be at least 0; got -1"),
        (FRAMES, {"levels": 2**31}, ValueError, "levels must be at most 2147483647; got 2147483648"),
        (FRAMES, {"winsize": 1}, ValueError, "winsize must be at least 2; got 1"),
        (FRAMES, {"iterations": 0}, ValueError, "iterations must be at least 1; got 0"),
        (FRAMES, {"poly_n": 0}, ValueError, "poly_n must be at least 1; got 0"),
        (FRAMES, {"poly_sigma": 0.19}, ValueError, "poly_sigma must be at least 0.2; got 0.19"),
        (FRAMES, {"poly_sigma": float("nan")}, ValueError, "poly_sigma must be at least 0.2; got nan"),
    ],
)
def test_refuses(frames: Any, parameters: dict[str, Any], exception: type[Exception], message: str) -> None:
    with pytest.raises(exception, match=re.escape(message)):
        farneback(frames, **parameters)


def test_the_extension_refuses_tables_that_lead_outside() -> None:
    tables = [
        tuple(
            (axis.index.copy(), axis.weight)
            for axis in (level.rows, level.columns, level.flow_rows, level.flow_columns)
        )
        for level in pyramid(8, 9, 0.5, 3)
    ]
    flow = np.zeros((1, 1, 8, 9, 2), np.float32)
    weights, inverse = expansion_weights(5, 1.2)

    def call(levels: Any) -> None:
        _C.farneback(FRAMES.numpy(), flow, levels, weights, inverse, 15, 3, 1)

    call(tables)
    with pytest.raises(ValueError, match="the last level must have the size of the frames"):
        call([])
    with pytest.raises(ValueError, match="a level must have four tables"):
        call([tables[0][:3]])
    wide = tuple((index.astype(np.int64), weight) for index, weight in tables[0])
    with pytest.raises(ValueError, match="a table must be \\(int32 index, float32 weight\\)"):
        call([wide])
    tables[0][1][0][0, 0] = 9
    with pytest.raises(ValueError, match="indices must lie inside the axis"):
        call(tables)
