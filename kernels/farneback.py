"""Dense optical flow of all frame pairs by Farnebäck's method (paper III-A), as OpenCV computes it."""

from __future__ import annotations

import torch
from torch import Tensor

from aosa_fast.kernels import farneback_numpy
from aosa_fast.kernels.checks import check_dtype, check_numbers, check_shapes, check_tensors, threads
from aosa_fast.kernels.registry import operator

LEAST_SIGMA = 0.2  # pixels; with a smaller Gaussian only the centre has weight, and float32 holds no fit to that


def farneback(
    frames: Tensor,  # (B, T, H, W)
    *,
    pyr_scale: float = 0.5,
    levels: int = 3,
    winsize: int = 15,
    iterations: int = 3,
    poly_n: int = 5,
    poly_sigma: float = 1.2,
) -> Tensor:
    """Flow from every frame to the next: what cv2.calcOpticalFlowFarneback means by the same parameters.

    Args:
        frames: (B, T, H, W) uint8, grey.
        pyr_scale: size of a level of the pyramid relative to the next finer one, above 0 and below 1.
        levels: most levels besides the frame's own size, at least 0; none has a side below 32 pixels.
        winsize: side of the window over which the motion is taken as constant, pixels, at least 2; an even one acts as
            the next odd one.
        iterations: at every level, at least 1.
        poly_n: radius of the window of the polynomial expansion, pixels, at least 1 (OpenCV's meaning, whatever its
            documentation says).
        poly_sigma: standard deviation of the Gaussian in that window, pixels, at least 0.2.

    Returns:
        (B, T-1, H, W, 2) float32, (dx, dy), pixels; flow[:, t] leads from frame t to frame t + 1.

    Raises:
        TypeError: `frames` is not uint8.
        ValueError: a wrong shape, an empty frame or clip, or a parameter out of its range.

    Note:
        OpenCV differs where it goes wrong: at winsize 1 its window has two rows and columns, and on sides of 6 to 9
        pixels it forgets that some pixels are near a border.
    """
    check_tensors(frames=frames)
    return _farneback(frames, pyr_scale, levels, winsize, iterations, poly_n, poly_sigma)


def _check(
    frames: Tensor, pyr_scale: float, levels: int, winsize: int, iterations: int, poly_n: int, poly_sigma: float
) -> None:
    sizes = check_shapes(frames=(frames, "B T H W"))
    check_dtype(torch.uint8, frames=frames)
    if min(sizes["T"], sizes["H"], sizes["W"]) < 1:
        raise ValueError(f"frames must have at least one frame and one pixel; got {tuple(frames.shape)}")
    if not 0 < pyr_scale < 1:
        raise ValueError(f"pyr_scale must be above 0 and below 1; got {pyr_scale}")
    check_numbers(0, levels=levels)
    check_numbers(2, winsize=winsize)
    check_numbers(1, iterations=iterations, poly_n=poly_n)
    if not poly_sigma >= LEAST_SIGMA:
        raise ValueError(f"poly_sigma must be at least {LEAST_SIGMA}; got {poly_sigma}")


def _farneback_fake(
    frames: Tensor, pyr_scale: float, levels: int, winsize: int, iterations: int, poly_n: int, poly_sigma: float
) -> Tensor:
    B, T, H, W = frames.shape
    return frames.new_empty((B, T - 1, H, W, 2), dtype=torch.float32)


@operator("farneback", check=_check, fake=_farneback_fake)
def _farneback(
    frames: Tensor, pyr_scale: float, levels: int, winsize: int, iterations: int, poly_n: int, poly_sigma: float
) -> Tensor:
    B, T, H, W = frames.shape
    flow = torch.empty((B, T - 1, H, W, 2), dtype=torch.float32, device="cpu")
    options = pyr_scale, levels, winsize, iterations, poly_n, poly_sigma
    farneback_numpy.farneback(frames.contiguous().numpy(), flow.numpy(), *options, threads=threads())
    return flow
