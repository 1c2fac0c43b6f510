"""The smooth masks of extremal perturbation, and the blurs they choose from (Fong et al., ICCV 2019, section 3.2)."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor

SPACING = 7  # pixels between the cells of a mask
COLDNESS = 20.0  # of the smooth maximum
SMALL_SIGMA, LARGE_SIGMA, SMALL = 11, 23, 112  # reach of a cell, pixels; the first up to frames of 112 px
LEVELS, MOST_BLUR = 8, 20.0  # pictures in the pyramid; its largest sigma, pixels
# Values that a chunk of the smooth maximum holds. A core's cache wants some 2**18 (2**17 to 2**20 are alike at 16x64x64
# and 16x112x112), a GPU as few chunks as its memory allows.
CHUNK = {"cpu": 1 << 18, "cuda": 1 << 25}


class SmoothMask:
    """Makes smooth masks of frames H x W from one number per cell of a grid.

    Cells are 7 pixels apart, from pixel (0, 0) on. A pixel of the mask is the smooth maximum of v_j, that is sum v_j
    exp(20 v_j) / sum exp(20 v_j), over its nearest cell's (2r+1)^2 neighbours j, those outside of the grid being 0. v_j
    is the cell's number times k(d_j / sigma), k(z) = exp(-2 max(z - 0.5, 0)^2), where d_j is the distance to the cell,
    and r = 1 + ceil(sigma / 7). Sigma is 11 pixels for frames of up to 112 pixels, else 23. The mask continues for
    sigma pixels beyond the frame's edges, so that the volume of a region does not depend on its place.

    Attributes:
        grid: (gy, gx), the number of cells; 16 x 16 at 112 x 112.
        margin: sigma, pixels beyond each edge.
        shape: (H + 2 sigma, W + 2 sigma), of the padded mask; 134 x 134 at 112 x 112.
    """

    def __init__(self, H: int, W: int, device: torch.device) -> None:
        self.margin = sigma = SMALL_SIGMA if max(H, W) <= SMALL else LARGE_SIGMA
        self.grid = (ceil(H / SPACING), ceil(W / SPACING))
        self.shape = (H + 2 * sigma, W + 2 * sigma)
        self.radius = 1 + ceil(sigma / SPACING)
        reach = SPACING * self.radius + SPACING // 2
        offset = torch.arange(-reach, reach + 1, device=device)
        distance = torch.hypot(offset[reach:, None].double(), offset.double())
        weight = torch.exp(-2 * (distance / sigma - 0.5).clamp(min=0) ** 2)
        self.weight = (COLDNESS * weight).float()  # (reach + 1, 2 reach + 1): by |dy|, and by dx
        sides = [self._neighbours(cells).to(device) for cells in self.grid]
        # What neighbours outside of the grid add to the denominator: exp(0) each.
        self.outside = (2 * self.radius + 1) ** 2 - sides[0].reshape(-1, 1, 1) * sides[1].reshape(-1, 1)
        self._start = reach - sigma

    def _neighbours(self, cells: int) -> Tensor:
        """How many cells of the grid are neighbours, along one axis, for the places from -radius to cells + radius."""
        place = torch.arange(-self.radius, cells + self.radius, device="cpu")
        return (place + self.radius).clamp(max=cells - 1) - (place - self.radius).clamp(min=0) + 1

    def __call__(self, cells: Tensor) -> Tensor:
        """The padded masks of `cells`, differentiable.

        Args:
            cells: (R, T, gy, gx) float32 in [0, 1].

        Returns:
            (R, T, H + 2 sigma, W + 2 sigma) float32 in [0, 1].
        """
        R, T, gy, gx = cells.shape
        # Frames innermost: every operation then runs over long rows, whatever the size of the grid.
        values = _SmoothMaximum.apply(cells.permute(2, 3, 0, 1).reshape(gy, gx * R * T), self)
        blocks = values.unflatten(3, (-1, R, T)).permute(4, 5, 2, 0, 3, 1)
        full = blocks.reshape(R, T, SPACING * blocks.shape[2], SPACING * blocks.shape[4])
        (rows, columns), start = self.shape, self._start
        return full[..., start : start + rows, start : start + columns]

    def crop(self, padded: Tensor) -> Tensor:
        """The part of a padded mask that lies on the frame."""
        margin = self.margin
        return padded[..., margin:-margin, margin:-margin]


class _SmoothMaximum(torch.autograd.Function):
    """Sums up each cell's exponentials around it, rather than those of all neighbours at each pixel.

    A cell's exponentials depend on |dy| only, and the sum over a square of neighbours is a sum over columns, then over
    rows. At 112 x 112 a frame takes 0.3 million exponentials in place of 0.9 million, and nothing of that size is kept:
    forward and backward of 16 frames take some 25 ms on one core, where unfolding the neighbours takes 600 ms.
    """

    @staticmethod
    def forward(ctx: Any, cells: Tensor, mask: SmoothMask) -> Tensor:
        """(gy, gx * F) to (SPACING, SPACING, gy + 2r, (gx + 2r) * F): offsets within a block, then blocks."""
        gy, width = cells.shape
        frames, side = width // mask.grid[1], 2 * mask.radius + 1
        padded = width + 2 * mask.radius * frames
        sums = cells.new_zeros(2, SPACING, SPACING, gy + 2 * mask.radius, padded)  # of exp(u), and of u exp(u)
        for first, weight in _chunks(mask, cells):
            terms = cells.new_empty(2, *weight.shape[:-2], gy, width)
            torch.mul(weight, cells, out=terms[1])
            torch.exp(terms[1], out=terms[0])
            terms[1] *= terms[0]
            columns = cells.new_zeros(2, len(weight), SPACING, gy, padded)
            for block in range(side):
                columns[..., block * frames : block * frames + width].add_(terms[:, :, block])
            for i in range(len(weight)):
                for block, offset in _places(mask, first + i):  # add_, as += on a view would copy it onto itself
                    sums[:, offset, :, block : block + gy].add_(columns[:, i])
        count = mask.outside.expand(-1, -1, frames).reshape(gy + 2 * mask.radius, padded)
        total = sums[0] + count
        result = sums[1] / (COLDNESS * total)
        ctx.mask = mask
        ctx.save_for_backward(cells, total, result)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """With u = 20 k p, the mask's derivative by p is k exp(u) (1 + u - 20 mask) / total."""
        cells, total, result = ctx.saved_tensors
        mask: SmoothMask = ctx.mask
        gy, width = cells.shape
        frames, side = width // mask.grid[1], 2 * mask.radius + 1
        share = grads[0] / total
        factors = torch.stack([share, share * (1 - COLDNESS * result)])
        grad = cells.new_zeros(gy * width)
        for first, weight in _chunks(mask, cells):
            rows = cells.new_zeros(2, len(weight), SPACING, gy, total.shape[3])
            for i in range(len(weight)):
                for block, offset in _places(mask, first + i):
                    rows[:, i].add_(factors[:, offset, :, block : block + gy])
            # A view whose third axis is the block: each starts one cell further to the right.
            step = rows.stride()
            windows = rows.as_strided(
                (2, len(weight), side, SPACING, gy, width), (step[0], step[1], frames, step[2], step[3], 1)
            )
            terms = weight * cells
            slopes = torch.addcmul(windows[1], windows[0], terms).mul_(terms.exp_())
            with torch.autocast(cells.device.type, enabled=False):  # the model's bfloat16 is not for the masks
                grad += weight.flatten() @ slopes.reshape(-1, gy * width)
        return grad.reshape(gy, width) / COLDNESS, None


def _chunks(mask: SmoothMask, cells: Tensor) -> list[tuple[int, Tensor]]:
    """(first |dy|, weights (n, 2r+1, SPACING, 1, 1)) of consecutive distances."""
    most = CHUNK.get(cells.device.type, CHUNK["cpu"]) // (mask.weight.shape[1] * cells.numel())
    size = min(max(most, 1), len(mask.weight))
    parts = mask.weight.reshape(len(mask.weight), -1, SPACING, 1, 1).split(size)
    return [(i * size, part) for i, part in enumerate(parts)]


def _places(mask: SmoothMask, distance: int) -> list[tuple[int, int]]:
    """(block, offset within it) of the rows at this distance above and below a cell."""
    reach = len(mask.weight) - 1
    return [divmod(reach + dy, SPACING) for dy in sorted({-distance, distance})]


def blur_frames(video: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of every frame, cut off at 4 sigma, borders reflected about their last pixel.

    Args:
        video: (..., H, W) float32.
        sigma: pixels, above 0.

    Returns:
        Like `video`. The sums are in float64, so that no setting of the model's precision changes them.
    """
    down, across = (_gaussian(size, sigma).to(video.device) for size in video.shape[-2:])
    return (down @ video.double() @ across.T).float()


def _gaussian(size: int, sigma: float) -> Tensor:
    """(size, size) float64: row i holds the weights of pixel i's blur."""
    radius = int(4 * sigma + 0.5)
    offset = np.arange(-radius, radius + 1)
    weight = np.exp(-0.5 * (offset / sigma) ** 2)
    period = max(2 * (size - 1), 1)
    source = (np.arange(size).reshape(-1, 1) + offset) % period
    matrix = np.zeros((size, size))
    np.add.at(
        matrix, (np.arange(size).reshape(-1, 1), np.minimum(source, period - source) % size), weight / weight.sum()
    )
    return torch.from_numpy(matrix)


def blur_pyramid(video: Tensor) -> Tensor:
    """(B, 8, C, T, H, W): the clips from a blur of sigma 20 pixels, in equal steps, to what they are."""
    sigmas = MOST_BLUR * (1 - np.arange(LEVELS) / (LEVELS - 1))
    return torch.stack([blur_frames(video, float(sigma)) for sigma in sigmas[:-1]] + [video], 1)
