"""Farnebäck's optical flow in plain float64 PyTorch: the truth that `farneback` is held against.

G. Farnebäck, Two-Frame Motion Estimation Based on Polynomial Expansion (SCIA 2003), with the choices of OpenCV's
calcOpticalFlowFarneback: both frames are approximated around every pixel by a quadratic polynomial, and the flow is the
displacement that fits the two polynomials best over a window, found from coarse to fine.
"""

from __future__ import annotations

import torch
from torch import Tensor

BORDER = (0.14, 0.14, 0.4472, 0.4472, 0.4472)  # trust in the expansion 0, 1, ... 4 pixels from a border
LEAST_SIDE = 32  # pixels; coarser levels of the pyramid are not made
REGULARISER = 1e-3  # added to the determinant: where there is no texture, the flow is 0


def farneback(
    frames: Tensor,
    *,
    pyr_scale: float = 0.5,
    levels: int = 3,
    winsize: int = 15,
    iterations: int = 3,
    poly_n: int = 5,
    poly_sigma: float = 1.2,
) -> Tensor:
    """Flow (B, T-1, H, W, 2) float64 of frames (B, T, H, W) uint8."""
    clips, count, height, width = frames.shape
    flow = torch.zeros(clips, max(count - 1, 0), height, width, 2, dtype=torch.float64)
    for b in range(clips):
        for t in range(count - 1):
            pair = frames[b, t].double(), frames[b, t + 1].double()
            d = None
            for scale in pyramid_scales(height, width, pyr_scale, levels):
                first, second = (expand(pyramid_image(image, scale), poly_n, poly_sigma) for image in pair)
                size = first.shape[1:]
                d = torch.zeros(2, *size, dtype=torch.float64) if d is None else resize(d, *size) / pyr_scale
                for _ in range(iterations):
                    d = update(matrices(first, second, d), winsize)
            assert d is not None
            flow[b, t] = d.permute(1, 2, 0)
    return flow


def pyramid_scales(height: int, width: int, pyr_scale: float, levels: int) -> list[float]:
    """Scales of the pyramid, coarsest first; at most `levels` besides 1, each with sides of at least LEAST_SIDE."""
    scales = [1.0]
    while len(scales) <= levels and min(height, width) * (scales[-1] * pyr_scale) >= LEAST_SIDE:
        scales.append(scales[-1] * pyr_scale)
    return scales[::-1]


def pyramid_image(image: Tensor, scale: float) -> Tensor:
    """The frame (H, W), blurred to what `scale` can show, and made smaller."""
    sigma = (1 / scale - 1) / 2
    radius = max(round(sigma * 5) | 1, 3) // 2
    if sigma > 0:
        kernel = torch.exp(-(torch.arange(-radius, radius + 1, dtype=torch.float64) ** 2) / (2 * sigma**2))
    else:
        kernel = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    blurred = image
    for axis in (0, 1):
        size = image.shape[axis]
        period = max(2 * (size - 1), 1)
        index = torch.arange(-radius, size + radius).abs() % period
        index = torch.minimum(index, period - index)  # mirrored at the centre of the outermost pixel
        windows = blurred.index_select(axis, index).unfold(axis, 2 * radius + 1, 1)
        blurred = windows @ (kernel / kernel.sum())
    return resize(blurred, round(image.shape[0] * scale), round(image.shape[1] * scale))


def resize(image: Tensor, height: int, width: int) -> Tensor:
    """Bilinear (..., height, width), pixel centres at half-integers, border pixels continued."""
    for axis, size in ((-2, height), (-1, width)):
        source = image.shape[axis]
        position = ((torch.arange(size, dtype=torch.float64) + 0.5) * source / size - 0.5).clamp(0, source - 1)
        low = position.floor().long()
        weight = position - low
        if axis == -2:
            weight = weight.unsqueeze(-1)
        high = (low + 1).clamp(max=source - 1)
        image = image.index_select(axis, low) * (1 - weight) + image.index_select(axis, high) * weight
    return image


def expand(image: Tensor, poly_n: int, poly_sigma: float) -> Tensor:
    """Coefficients (5, H, W) of y, x, y², x², xy: the quadratic polynomial that fits (H, W) around every pixel best.

    The fit is over 2 poly_n + 1 pixels a side, weighted by a Gaussian; border pixels are continued.
    """
    x = torch.arange(-poly_n, poly_n + 1, dtype=torch.float64)
    g = torch.exp(-(x**2) / (2 * poly_sigma**2))
    g = g / g.sum()
    weight = g[:, None] * g[None, :]
    X, Y = x.expand(len(x), -1), x.unsqueeze(1).expand(-1, len(x))
    basis = torch.stack([torch.ones_like(X), Y, X, Y * Y, X * X, X * Y]).flatten(1)  # (6, window)
    gram = (basis * weight.flatten()) @ basis.T
    filters = torch.linalg.solve(gram, basis * weight.flatten())[1:]
    padded = torch.nn.functional.pad(image[None, None], [poly_n] * 4, mode="replicate")
    return torch.nn.functional.conv2d(padded, filters.reshape(5, 1, len(x), len(x)))[0]


def matrices(first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
    """What each pixel says about its displacement: G11, G12, G22, h1, h2 as (5, H, W), with G (dy, dx) = h.

    `first` and `second` (5, H, W) are the expansions; the second is looked up where `flow` (2, H, W) leads.
    """
    height, width = flow.shape[1:]
    dx, dy = flow
    px, py = torch.arange(width) + dx, torch.arange(height).unsqueeze(1) + dy
    inside = (px >= 0) & (px < width - 1) & (py >= 0) & (py < height - 1)
    x0, y0 = torch.where(inside, px, 0.0).long(), torch.where(inside, py, 0.0).long()
    x1, y1 = (x0 + 1).clamp(max=width - 1), (y0 + 1).clamp(max=height - 1)
    ax, ay = px - x0, py - y0
    top = second[:, y0, x0] * (1 - ax) + second[:, y0, x1] * ax
    bottom = second[:, y1, x0] * (1 - ax) + second[:, y1, x1] * ax
    there = top * (1 - ay) + bottom * ay

    # A point that leaves the image has no second polynomial: a constant second frame, of the first's curvature.
    b_there = torch.where(inside, there[:2], 0.0)
    yy, xx, xy = torch.where(inside, (first[2:] + there[2:]) / 2, first[2:])
    xy = xy / 2
    by, bx = (first[:2] - b_there) / 2
    by, bx = by + yy * dy + xy * dx, bx + xy * dy + xx * dx
    yy, xx, xy, by, bx = torch.stack([yy, xx, xy, by, bx]) * border_trust(height, width)
    return torch.stack(
        [yy * yy + xy * xy, (yy + xx) * xy, xx * xx + xy * xy, yy * by + xy * bx, xy * by + xx * bx],
    )


def border_trust(height: int, width: int) -> Tensor:
    """(H, W): the product of BORDER over the borders that are nearer than 5 pixels, 1 elsewhere."""
    sides = []
    for size in (height, width):
        ramp = torch.ones(size, dtype=torch.float64)
        near = min(len(BORDER), size)
        ramp[:near] = torch.tensor(BORDER[:near], dtype=torch.float64)
        sides.append(ramp * ramp.flip(0))
    return sides[0].unsqueeze(1) * sides[1]


def update(M: Tensor, winsize: int) -> Tensor:
    """Flow (2, H, W), (dx, dy), that solves G (dy, dx) = h, both averaged over the window of every pixel."""
    radius = winsize // 2
    padded = torch.nn.functional.pad(M[None], [radius] * 4, mode="replicate")[0]
    rows = padded.unfold(1, 2 * radius + 1, 1).sum(-1)
    G11, G12, G22, h1, h2 = rows.unfold(2, 2 * radius + 1, 1).sum(-1) / winsize**2
    determinant = G11 * G22 - G12 * G12 + REGULARISER
    return torch.stack([G11 * h2 - G12 * h1, G22 * h1 - G12 * h2]) / determinant
