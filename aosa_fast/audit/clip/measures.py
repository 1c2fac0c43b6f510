"""What a clip's map lies on, and how it is spread: one number, or small grid, per question.

All of them are of the map's positive part, and of its shares, which sum to 1 over the clip's voxels; they are None
where no voxel is positive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.clip.grids import clip_grid, moving_centre, signed_grid, window_grid
from aosa_fast.errors import InputError
from aosa_fast.libraries import cv2

if TYPE_CHECKING:
    from aosa_fast.audit.tasks import Prepared

Shares = NDArray[np.float64]  # (T, H, W), sums to 1

_RING = 12  # the border ring's width is this part of the shorter side
_RIM = 16  # likewise of what moves


def measure(saliency: NDArray[np.float32], prepared: Prepared) -> dict[str, Any]:
    """Every measure of one clip, by the names of the rows' columns, without `agreement`.

    Numbers are from 0 to 1, but for `effective_frames` (1..T), `spread` (sides of the frame) and `camera_motion`
    (pixels per frame); lists for `grid`, `grid_moving` (512), `grid_signed` (64, from -1 to 1) and `grid_around` (81);
    None where there is no answer.
    `positive_share` is the sum of the positive values over that of all magnitudes; for the others see the functions
    below and in `grids`.

    Args:
        saliency: (T, H, W) float32, the map, or the field that its tubes integrate.
        prepared: the clip that it is of.

    Raises:
        InputError: another shape than the clip's, or a value that is not finite.
    """
    shape = prepared.clip.frames.shape[:3]
    if saliency.shape != shape:
        raise InputError(f"saliency must have the clip's shape {shape}; got {saliency.shape}")
    if bad := saliency.size - int(np.isfinite(saliency).sum()):
        raise InputError(f"saliency must be finite; got {bad} values of {prepared.sample.id} that are not")
    magnitude = float(np.abs(saliency).sum(dtype=np.float64))
    positive: NDArray[np.float64] = np.maximum(saliency, 0, dtype=np.float64)
    total = float(positive.sum())
    shares: Shares | None = None
    if total > 0:
        positive /= total  # in place: new memory for a clip costs more than the division
        shares = positive
    picture = None if shares is None else shares.sum(axis=0)
    centre = moving_centre(prepared.moving)
    boxes = box_voxels(prepared.clip.boxes, shape)
    around = None
    if shares is not None and centre is not None:
        # What moves, and its rim, are looked at for good reason; their mark would cover what stands beside them. So is
        # an actor of whom only the arms move, where boxes tell.
        usual = near(prepared.moving) if boxes is None else near(prepared.moving) | boxes
        around = window_grid(np.where(usual, 0.0, shares).sum(axis=0), centre)
    return {
        "positive_share": min(total / magnitude, 1.0) if magnitude > 0 else None,
        **_region("border", picture, border_ring(*shape[1:])),
        **_region("letterbox", picture, prepared.letterbox),
        **_region("static", picture, prepared.static),
        **_region("moving", shares, prepared.moving),
        **_region("boxes", shares, boxes),
        **temporal(shares),
        **spatial(picture),
        "camera_motion": prepared.camera,
        "grid": None if shares is None else clip_grid(shares),
        "grid_moving": clip_grid(prepared.moving),
        "grid_signed": signed_grid(saliency if boxes is None else np.where(boxes, 0, saliency), magnitude),
        "grid_around": around,
    }


def agreement(first: NDArray[np.float32], second: NDArray[np.float32]) -> float | None:
    """Pearson's correlation of two maps (T, H, W), voxel by voxel, -1 to 1; None if one of them is constant."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    a, b = (values.astype(np.float64).ravel() for values in (first, second))
    a -= a.mean()
    b -= b.mean()
    return float(np.clip((a @ b) / np.sqrt((a @ a) * (b @ b)), -1, 1))


def border_ring(height: int, width: int) -> NDArray[np.bool_]:
    """(H, W): pixels at most a twelfth of the shorter side, rounded, and at least one pixel, from the frame's edge."""
    depth = max(1, round(min(height, width) / _RING))
    ring = np.ones((height, width), bool)
    ring[depth : height - depth, depth : width - depth] = False
    return ring


def box_voxels(boxes: NDArray[np.int32] | None, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    """(T, H, W): the union of each frame's boxes; None without annotation, or if no frame has a box.

    Args:
        boxes: (T, M, 4), (x0, y0, x1, y1), half-open, empty where there is none.
        shape: (T, H, W).
    """
    if boxes is None:
        return None
    inside = np.zeros(shape, bool)
    for t, m in np.argwhere((boxes[..., 2:] > boxes[..., :2]).all(axis=-1)):
        x0, y0, x1, y1 = boxes[t, m].clip(0)
        inside[t, y0:y1, x0:x1] = True
    return inside if inside.any() else None


def temporal(shares: Shares | None) -> dict[str, float | None]:
    """How a map is spread over time.

    `best_frame_share`: the largest share of one frame. `effective_frames`: e to the power of the entropy of the frames'
    shares: T if all are equal, 1 if one has everything. `centroid_t`: mean time, 0 to 1 over the clip, a frame's being
    its middle.
    """
    if shares is None:
        return dict.fromkeys(("best_frame_share", "effective_frames", "centroid_t"))
    frames = shares.sum(axis=(1, 2))
    return {
        "best_frame_share": float(frames.max()),
        "effective_frames": _effective(frames),
        "centroid_t": float(frames @ _middles(len(frames))) / len(frames),
    }


def spatial(picture: NDArray[np.float64] | None) -> dict[str, float | None]:
    """How a map, summed over time to (H, W), is spread over the frame.

    `effective_area`: e to the power of the entropy of the pixels' shares, over the number of pixels: 1 if all are
    equal. `centroid_x`, `centroid_y`: mean place, 0 to 1 over the frame's width and height, a pixel's being its middle.
    `spread`: root of the mean square distance to it, in sides of the frame, the shorter one.
    """
    if picture is None:
        return dict.fromkeys(("effective_area", "centroid_x", "centroid_y", "spread"))
    height, width = picture.shape
    rows, columns = picture.sum(axis=1), picture.sum(axis=0)
    x, y = float(columns @ _middles(width)), float(rows @ _middles(height))
    square = columns @ (_middles(width) - x) ** 2 + rows @ (_middles(height) - y) ** 2
    return {
        "effective_area": _effective(picture.ravel()) / picture.size,
        "centroid_x": x / width,
        "centroid_y": y / height,
        "spread": float(np.sqrt(square)) / min(height, width),
    }


def near(moving: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(T, H, W): pixels at most a sixteenth of the shorter side from one that moves in the same frame."""
    reach = max(1, round(min(moving.shape[1:]) / _RIM))
    square = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    return np.stack([cv2.dilate(frame, square) for frame in moving.astype(np.uint8)]).astype(bool)


def _region(name: str, shares: NDArray[np.float64] | None, inside: NDArray[np.bool_] | None) -> dict[str, Any]:
    """`share_`: of the map in a region; `area_`: of the voxels. Both are None if there is no such region to speak of.

    Shares are (T, H, W); or (H, W), summed over time, for a region that is the same in all frames.
    """
    if inside is None:
        return {f"share_{name}": None, f"area_{name}": None}
    share = None if shares is None else min(float(shares[inside].sum()), 1.0)
    return {f"share_{name}": share, f"area_{name}": float(inside.mean())}


def _effective(shares: NDArray[np.float64]) -> float:
    """How many equal shares would have the entropy of these."""
    some = shares[shares > 0]
    return float(np.clip(np.exp(-(some @ np.log(some))), 1, len(shares)))


def _middles(count: int) -> NDArray[np.float64]:
    return np.linspace(0.5, count - 0.5, count)
