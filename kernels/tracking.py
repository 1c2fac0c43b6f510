"""Anchors: the grid, their tracks along the flow, and their boxes (paper III-A, steps 1 to 5)."""

import math
from contextlib import nullcontext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.kernels.checks import check_device, check_dtype, check_numbers, check_shapes, check_tensors
from aosa_fast.kernels.jit import compiled, working
from aosa_fast.kernels.registry import operator


def anchor_grid(height: int, width: int, stride: int) -> NDArray[np.float32]:
    """Start positions: every `stride` pixels from stride // 2 on, row by row (paper III-A, step 1).

    Returns:
        (N, 2) float32, (x, y) in pixels; N = ceil((H - s//2) / s) * ceil((W - s//2) / s).

    Raises:
        ValueError: a size below 1, or a stride so large that no anchor lies in the frame.
    """
    _check_grid(height, width, stride)
    ys = np.arange(stride // 2, height, stride, dtype=np.float32)
    xs = np.arange(stride // 2, width, stride, dtype=np.float32)
    return np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)


def _check_grid(height: int, width: int, stride: int) -> None:
    if height < 1 or width < 1 or stride < 1:
        raise ValueError(f"height, width and stride must be at least 1; got {height}, {width} and {stride}")
    if stride // 2 >= min(height, width):
        raise ValueError(f"stride must leave an anchor in the {height}x{width} frame, at stride // 2; got {stride}")


def track_anchors(
    flow: Tensor,  # (B, T-1, H, W, 2)
    stride: int,
    reseed: int = 0,
) -> tuple[Tensor, Tensor]:
    """Moves a grid of anchors along the flow, sub-pixel, looked up bilinearly (paper III-A, steps 1, 3 and 4).

    An anchor leaves when y < 0, y > H-1, x < 0 or x > W-1, and ends where the flow is not finite; from that frame on it
    is dead, and keeps its last position inside. Positions are summed in float64 and returned as float32.

    Args:
        flow: (B, T-1, H, W, 2) float32, (dx, dy) from frame t to t+1, pixels.
        stride: distance of the anchors in frame 0, pixels.
        reseed: start another grid every `reseed` frames; 0: in frame 0 only, as in the paper. Later anchors are not
            alive before their first frame, and rest at their start position there.

    Returns:
        tracks (B, N, T, 2) float32, (x, y) in pixels, and alive (B, N, T) bool; grid after grid, row by row.

    Raises:
        TypeError: `flow` is not float32.
        ValueError: a wrong shape, a stride that leaves no anchor in the frame, or a negative `reseed`.
    """
    check_tensors(flow=flow)
    return _track_anchors(flow, stride, reseed)


def rasterize_boxes(
    tracks: Tensor,  # (B, N, T, 2)
    alive: Tensor,  # (B, N, T)
    box: tuple[int, int],
    height: int,
    width: int,
) -> Tensor:
    """The rectangle of each anchor in each frame (paper III-A, steps 2 and 5).

    Rows r - h//2 to r - h//2 + h with r = y rounded half to even, likewise columns, clipped to the frame: a box
    outside of it is empty, and so is one of a position that is not a number.

    Args:
        tracks: (B, N, T, 2) float32, (x, y), pixels.
        alive: (B, N, T) bool.
        box: (h, w), pixels.
        height: H, pixels.
        width: W, pixels.

    Returns:
        (B, N, T, 4) int32, (x0, y0, x1, y1), half-open; all 0 where not alive.

    Raises:
        TypeError: a wrong dtype.
        ValueError: shapes or devices that do not fit, or a box or a frame below 1 pixel.
    """
    check_tensors(tracks=tracks, alive=alive)
    check_dtype(torch.bool, alive=alive)
    return _rasterize_boxes(tracks, alive, box[0], box[1], height, width)


def _check_flow(flow: Tensor, stride: int, reseed: int) -> None:
    check_shapes(flow=(flow, "B S H W 2"))
    check_dtype(torch.float32, flow=flow)
    _check_grid(flow.shape[2], flow.shape[3], stride)
    check_numbers(0, reseed=reseed)


def _check_boxes(tracks: Tensor, alive: Tensor, box_height: int, box_width: int, height: int, width: int) -> None:
    check_shapes(tracks=(tracks, "B N T 2"), alive=(alive, "B N T"))
    check_dtype(torch.float32, tracks=tracks)
    check_device(tracks=tracks, alive=alive)
    if min(box_height, box_width) < 1:
        raise ValueError(f"box must be at least 1 pixel high and wide; got {(box_height, box_width)}")
    check_numbers(1, box_height=box_height, box_width=box_width, height=height, width=width)


def grids_in(frames: int, reseed: int) -> int:
    """How many grids are started in `frames` frames."""
    return 1 if reseed == 0 else math.ceil(frames / reseed)


def _track_anchors_fake(flow: Tensor, stride: int, reseed: int) -> tuple[Tensor, Tensor]:
    clips, steps, height, width, _ = flow.shape
    per_side = [len(range(stride // 2, size, stride)) for size in (height, width)]
    shape = (clips, per_side[0] * per_side[1] * grids_in(steps + 1, reseed), steps + 1)
    return flow.new_empty((*shape, 2)), flow.new_empty(shape, dtype=torch.bool)


@operator("track_anchors", check=_check_flow, fake=_track_anchors_fake)
def _track_anchors(flow: Tensor, stride: int, reseed: int) -> tuple[Tensor, Tensor]:
    clips, steps, height, width, _ = flow.shape
    grid = anchor_grid(height, width, stride)
    count = len(grid) * grids_in(steps + 1, reseed)
    tracks = torch.empty((clips, count, steps + 1, 2), dtype=torch.float32, device="cpu")
    alive = torch.empty((clips, count, steps + 1), dtype=torch.bool, device="cpu")
    arrays = flow.detach().contiguous().numpy()
    numba = compiled("aosa_fast.kernels.tracking_numba")
    track = numba.track_clip if numba else _track_clip
    with nullcontext() if numba else working():
        for b in range(clips):
            track(arrays[b], grid, reseed, tracks[b].numpy(), alive[b].numpy())
    return tracks, alive


@np.errstate(invalid="ignore")
def _track_clip(
    flow: NDArray[np.float32],  # (T-1, H, W, 2)
    grid: NDArray[np.float32],  # (n, 2)
    reseed: int,
    tracks: NDArray[np.float32],  # (N, T, 2)
    alive: NDArray[np.bool_],  # (N, T)
) -> None:
    steps, height, width, _ = flow.shape
    places = np.resize(grid, (len(tracks), 2)).astype(np.float64)
    births = np.arange(len(tracks)) // len(grid) * reseed
    living = np.ones(len(tracks), dtype=np.bool_)
    last = np.array([width - 1, height - 1])
    for t in range(steps + 1):
        if t > 0:
            # Bilinear look-up, in the order of `tracking_numba`.
            near = places.astype(np.intp)
            (column, row), (right, below) = near.T, np.minimum(near + 1, last).T
            ax, ay = np.hsplit(places - near, 2)
            picture = flow[t - 1]
            moved = places + (
                (1 - ay) * ((1 - ax) * picture[row, column] + ax * picture[row, right])
                + ay * ((1 - ax) * picture[below, column] + ax * picture[below, right])
            )
            # Written so that NaN ends the track.
            living &= ((moved >= 0) & (moved <= last)).all(axis=1) | (t <= births)
            np.copyto(places, moved, where=(living & (t > births))[:, None])
        tracks[:, t] = places
        alive[:, t] = living & (t >= births)


def _rasterize_boxes_fake(
    tracks: Tensor, alive: Tensor, box_height: int, box_width: int, height: int, width: int
) -> Tensor:
    return tracks.new_empty((*alive.shape, 4), dtype=torch.int32)


@operator("rasterize_boxes", check=_check_boxes, fake=_rasterize_boxes_fake)
def _rasterize_boxes(tracks: Tensor, alive: Tensor, box_height: int, box_width: int, height: int, width: int) -> Tensor:
    boxes = torch.empty((*alive.shape, 4), dtype=torch.int32, device="cpu")
    # In float64, which holds all that float32 and int32 hold: what is far away does not wrap around.
    corners, places = boxes.numpy(), np.rint(tracks.detach().numpy().astype(np.float64))
    for axis, (size, side) in enumerate([(box_width, width), (box_height, height)]):
        start = np.nan_to_num(places[..., axis] - size // 2, nan=-size, posinf=np.inf, neginf=-np.inf)
        corners[..., axis] = np.clip(start, 0, side)
        corners[..., 2 + axis] = np.clip(start + size, 0, side)
    corners[alive.logical_not().numpy()] = 0
    return boxes
