"""Anchors: the grid, their tracks along the flow, and their boxes (paper III-A, steps 1 to 5)."""

import math

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.kernels.checks import check_device, check_dtype, check_numbers, check_shapes, check_tensors
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
    for b in range(clips):
        _track_clip(arrays[b], grid, reseed, tracks[b].numpy(), alive[b].numpy())
    return tracks, alive


def _rasterize_boxes_fake(
    tracks: Tensor, alive: Tensor, box_height: int, box_width: int, height: int, width: int
) -> Tensor:
    return tracks.new_empty((*alive.shape, 4), dtype=torch.int32)


@operator("rasterize_boxes", check=_check_boxes, fake=_rasterize_boxes_fake)
def _rasterize_boxes(tracks: Tensor, alive: Tensor, box_height: int, box_width: int, height: int, width: int) -> Tensor:
    boxes = torch.empty((*alive.shape, 4), dtype=torch.int32, device="cpu")
    _rasterize(
        tracks.detach().contiguous().view(-1, 2).numpy(),
        alive.contiguous().view(-1).numpy(),
        (box_height, box_width),
        (height, width),
        boxes.view(-1, 4).numpy(),
    )
    return boxes


@numba.njit(cache=True, nogil=True)
def _track_clip(
    flow: NDArray[np.float32],  # (T-1, H, W, 2)
    grid: NDArray[np.float32],  # (n, 2)
    reseed: int,
    tracks: NDArray[np.float32],  # (N, T, 2)
    alive: NDArray[np.bool_],  # (N, T)
) -> None:
    steps, height, width, _ = flow.shape
    count = tracks.shape[0]
    xs, ys = np.empty(count, dtype=np.float64), np.empty(count, dtype=np.float64)
    living = np.ones(count, dtype=np.bool_)
    for i in range(count):
        xs[i], ys[i] = grid[i % grid.shape[0], 0], grid[i % grid.shape[0], 1]
    # Frames outside, anchors inside: neighbours read the same lines of the flow, which halves the time from memory.
    for t in range(steps + 1):
        for i in range(count):
            birth = i // grid.shape[0] * reseed
            if living[i] and t > birth:
                # Bilinear look-up; x and y are inside [0, W-1] x [0, H-1], so only the far neighbour needs a limit.
                x, y = xs[i], ys[i]
                column, row = int(x), int(y)
                ax, ay = x - column, y - row
                right, below = min(column + 1, width - 1), min(row + 1, height - 1)
                here, there = flow[t - 1, row], flow[t - 1, below]
                dx = (1 - ay) * ((1 - ax) * here[column, 0] + ax * here[right, 0]) + ay * (
                    (1 - ax) * there[column, 0] + ax * there[right, 0]
                )
                dy = (1 - ay) * ((1 - ax) * here[column, 1] + ax * here[right, 1]) + ay * (
                    (1 - ax) * there[column, 1] + ax * there[right, 1]
                )
                # Written so that NaN ends the track.
                if 0 <= x + dx <= width - 1 and 0 <= y + dy <= height - 1:
                    xs[i] = x + dx
                    ys[i] = y + dy
                else:
                    living[i] = False
            tracks[i, t, 0] = xs[i]
            tracks[i, t, 1] = ys[i]
            alive[i, t] = living[i] and t >= birth


@numba.njit(cache=True, nogil=True)
def _rasterize(
    tracks: NDArray[np.float32],  # (M, 2)
    alive: NDArray[np.bool_],  # (M,)
    box: tuple[int, int],
    frame: tuple[int, int],
    boxes: NDArray[np.int32],  # (M, 4)
) -> None:
    for i in range(tracks.shape[0]):
        if not alive[i]:
            boxes[i] = 0
            continue
        for axis in range(2):
            # In float64, which holds all that float32 and int32 hold: what is far away does not wrap around.
            start = np.rint(np.float64(tracks[i, axis])) - box[1 - axis] // 2
            limit = np.float64(frame[1 - axis])
            end = start + box[1 - axis]
            boxes[i, axis] = int(min(max(start, 0.0), limit)) if start == start else 0
            boxes[i, 2 + axis] = int(min(max(end, 0.0), limit)) if end == end else 0
