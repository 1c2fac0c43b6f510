from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

from aosa_fast import InputError, explain
from aosa_fast.config import FLOWS
from aosa_fast.methods.flow import optical_flow, resolve_flow

SHIFT = (1.5, -1.0)
# Median error in the interior, pixels: several times what was measured (0.004 to 0.1).
ERROR = {"pcaflow": 0.3, "simpleflow": 0.3, "rlof": 0.3}
SIDES = {"pcaflow": (112, 120), "rlof": (112, 120)}


def moving_texture(H: int = 48, W: int = 56, T: int = 2) -> np.ndarray:
    """(1, T, H, W, 3): smooth noise that moves by SHIFT."""
    noise = np.random.default_rng(0).integers(0, 256, (H + 32, W + 32, 3)).astype(np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 2.0)
    texture = (texture - texture.min()) / (texture.max() - texture.min()) * 255
    moves = [np.float32([[1, 0, SHIFT[0] * t - 16], [0, 1, SHIFT[1] * t - 16]]) for t in range(T)]
    return np.stack([cv2.warpAffine(texture, move, (W, H)) for move in moves]).round().astype(np.uint8)[None]


@pytest.mark.parametrize("method", FLOWS)
def test_finds_a_known_motion(method):
    frames = moving_texture(*SIDES.get(method, (48, 56)))
    flow = optical_flow(frames, method)
    assert (flow.shape, flow.dtype) == ((1, 1, *frames.shape[2:4], 2), torch.float32)
    inside = flow[0, 0, 10:-10, 10:-10]
    assert float((inside - torch.tensor(SHIFT)).norm(dim=-1).median()) < ERROR.get(method, 0.15)
    assert torch.isfinite(flow).all()


@pytest.mark.parametrize("method", ["farneback-opencv", "dis-ultrafast", "dis-fast", "dis-medium", "tvl1", "rlof"])
def test_any_number_of_workers_gives_the_same_bits(method):
    frames = moving_texture(*SIDES.get(method, (48, 56)), T=4)
    one, three = (optical_flow(np.concatenate([frames, frames[:, ::-1]]), method, workers=n) for n in (1, 3))
    assert torch.equal(one, three)
    assert torch.equal(optical_flow(frames[:, 1:3], method)[0, 0], one[0, 1])
    assert not torch.equal(one[0], one[1])


def test_opencvs_threads_stay_as_they_were(monkeypatch):
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(2)
        wanted = cv2.getNumThreads()
        optical_flow(moving_texture(), "farneback-opencv")
        assert cv2.getNumThreads() == wanted
        monkeypatch.setattr(cv2, "calcOpticalFlowFarneback", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            optical_flow(moving_texture(), "farneback-opencv")
        assert cv2.getNumThreads() == wanted
    finally:
        cv2.setNumThreads(before)


def test_red_and_blue_weigh_as_asked():
    frames = moving_texture()
    swapped = optical_flow(frames, swapped_grey=True)
    assert torch.equal(swapped, optical_flow(np.ascontiguousarray(frames[..., ::-1])))
    assert not torch.equal(swapped, optical_flow(frames))


def test_farneback_is_opencvs_but_for_rounding():
    frames = moving_texture(72, 80, T=3)
    ours, opencvs = optical_flow(frames), optical_flow(frames, "farneback-opencv")
    assert opencvs.norm(dim=-1).median() > 1
    assert float((ours - opencvs).norm(dim=-1).max()) < 0.01
    assert torch.equal(resolve_flow("farneback", frames, compat=True), optical_flow(
        frames, "farneback-opencv", swapped_grey=True))  # fmt: skip
    red, swapped = frames.copy(), optical_flow(frames, swapped_grey=True)
    red[..., 0], red[..., 2] = frames[..., 2], frames[..., 0]
    assert torch.equal(optical_flow(red), swapped)


def test_one_frame_has_no_flow():
    assert optical_flow(moving_texture(T=1)).shape == (1, 0, 48, 56, 2)
    assert resolve_flow("dis-fast", moving_texture(T=1)).shape == (1, 0, 48, 56, 2)
    assert resolve_flow(torch.zeros(1, 0, 48, 56, 2), moving_texture(T=1)).shape == (1, 0, 48, 56, 2)


@pytest.mark.parametrize("method", ["tvl1", "pcaflow", "deepflow", "simpleflow", "rlof"])
def test_missing_contrib_is_named(method, monkeypatch):
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(InputError, match=rf"^flow={method} must have OpenCV's contrib .* opencv-contrib-python$"):
        optical_flow(moving_texture(), method)
    optical_flow(moving_texture(), "farneback")


@pytest.mark.parametrize(("method", "side"), [("farneback", 3), ("dis-fast", 11)])
def test_too_small_frames_are_refused(method, side):
    with pytest.raises(InputError, match=rf"^flow={method} must .*{side}x{side}") as caught:
        optical_flow(moving_texture(side, side), method)
    assert "\n" not in str(caught.value)
    assert "None" not in str(caught.value)


@pytest.mark.parametrize(("method", "sides"), [("pcaflow", (16, 32, 48, 60)), ("rlof", (4, 16, 24))])
def test_frames_on_which_opencv_crashes_or_hangs_are_refused(method, sides):
    # In its own process: below these sizes PCAFlow of OpenCV 5.0 overruns its memory, and RLOF takes a minute to fail.
    code = f"""
import numpy as np
from aosa_fast import InputError
from aosa_fast.methods.flow import optical_flow
for side in {sides}:
    try:
        optical_flow(np.random.default_rng(0).integers(0, 256, (1, 3, side, side, 3), dtype=np.uint8), "{method}")
    except InputError:
        continue
    raise SystemExit(f"{{side}} pixels were not refused")
"""
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=15, check=False)
    assert run.returncode == 0, run.stderr


def test_the_users_own_flow():
    frames = np.concatenate([moving_texture(T=3)] * 2)
    own = torch.randn(2, 2, 48, 56, 2, dtype=torch.float64).requires_grad_()
    taken = resolve_flow(own, frames)
    assert (taken.dtype, taken.requires_grad) == (torch.float32, False)
    assert torch.equal(taken, own.detach().float())
    assert torch.equal(resolve_flow(own.detach().numpy(), frames), taken)
    assert torch.equal(resolve_flow(own.detach()[0], frames[:1]), taken[:1])
    seen = []

    def make(clip: np.ndarray) -> np.ndarray:
        seen.append(clip)
        return np.full((2, 48, 56, 2), len(seen), dtype=np.float32)

    made = resolve_flow(make, frames)
    assert made[0].unique().tolist() == [1]
    assert made[1].unique().tolist() == [2]
    np.testing.assert_array_equal(np.stack(seen), frames)


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (torch.zeros(1, 2, 48, 56, 2), r"^flow must have shape \(2, 2, 48, 56, 2\), .*; got \(1, 2, 48, 56, 2\)$"),
        (torch.zeros(2, 3, 48, 56, 2), r"^flow must have shape .*; got \(2, 3, 48, 56, 2\)$"),
        (torch.zeros(2, 48, 56, 2), r"^flow must have shape .*; got \(2, 48, 56, 2\)$"),
        (torch.zeros(2, 2, 2, 48, 56), r"^flow must have shape .*; got \(2, 2, 2, 48, 56\)$"),
        (torch.zeros(2, 2, 48, 56, 2, dtype=torch.int32), r"^flow must be floating point; got torch.int32$"),
        (
            lambda clip: np.zeros((1, 48, 56, 2), dtype=np.float32),
            r"^flow must have shape .*; got \(2, 1, 48, 56, 2\)$",
        ),
        ("lucas", r"^flow must be one of farneback, .*, rlof; got lucas$"),
    ],
)
def test_bad_flow_gets_one_line(flow, message):
    with pytest.raises(InputError, match=message) as caught:
        resolve_flow(flow, np.concatenate([moving_texture(T=3)] * 2))
    assert "\n" not in str(caught.value)


def explained(flow: object, **options: object):
    torch.manual_seed(0)
    body = [torch.nn.Conv3d(3, 8, 3, (1, 3, 3), 1), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool3d(1), torch.nn.Flatten()]
    video = torch.randn(1, 3, 4, 32, 40, generator=torch.Generator().manual_seed(0))
    return explain(torch.nn.Sequential(*body, torch.nn.Linear(8, 6)), video, 1, flow=flow, **options)


@pytest.mark.parametrize("method", ["aosa", "aosa-approx", "aosa-path"])
@pytest.mark.parametrize("kind", ["leaves", "NaN"])
def test_anchors_that_all_leave_at_once_explain_the_first_frame_only(kind, method):
    result = explained(torch.full((1, 3, 32, 40, 2), 1000.0 if kind == "leaves" else torch.nan), method=method)
    assert result.alive[..., 0].all()
    assert not result.alive[..., 1:].any()
    assert torch.isfinite(result.saliency).all()
    assert result.saliency[:, 0].abs().max() > 0
    assert (result.saliency[:, 1:] == 0).all()
    assert (result.coverage[:, 1:] == 0).all()
    assert (result.boxes[:, :, 1:] == 0).all()


def test_in_a_static_clip_the_nearest_are_partners():
    result = explained(torch.zeros(1, 3, 32, 40, 2))
    assert torch.equal(result.tracks, result.tracks[:, :, :1].expand_as(result.tracks))
    assert result.members[0, :2].tolist() == [[0, 1, 5, 6], [1, 0, 2, 6]]  # 5 anchors a row


def test_the_users_own_flow_is_used_and_told():
    flow = torch.zeros(1, 3, 32, 40, 2)
    flow[..., 0] = 3
    for own in (flow, flow.numpy(), lambda frames: flow[0]):
        result = explained(own)
        assert result.tracks[0, 0].tolist() == [[4, 4], [7, 4], [10, 4], [13, 4]]
        assert result.metadata["config"]["flow"] not in FLOWS
