"""STEP, spatio-temporal extremal perturbation (Li et al., WACV 2021; method: section 8)."""

from __future__ import annotations

from math import ceil, pi

import torch
from torch import Tensor
from torch.nn import functional

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.call import NO_GRADIENT, Model, call_model, input_format, is_finite, model_errors
from aosa_fast.methods.input_gradients import Found, Resolve, clean_answer
from aosa_fast.methods.step_mask import LEVELS, SmoothMask, blur_frames, blur_pyramid
from aosa_fast.targets import ResolvedTarget

VOLUME_WEIGHT, VOLUME_GROWTH = 300.0, 1.0008668
CORE = (7, 11, 11)  # axes of the ellipsoid: frames, rows, columns
CORE_WEIGHT, CORE_START = 300.0, 100
RATE, MOMENTUM, DAMPENING = 0.05, 0.9, 0.9
SUM_BLUR = 10.0  # pixels


def step(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """The share of the clip of a given volume that, all else being blurred, keeps the class best.

    A mask (see `SmoothMask`) chooses for each voxel from 8 levels of blur. Gradient descent on its cells, from all ones
    on, minimises -log p + volume + core (see `volume_energy` and `core_energy`). p is the softmax probability of the
    class, or its sigmoid for score="sigmoid"; for a `Difference`, that of the first class among the two alone. Nothing
    is drawn at random, so `config.seed` is not read.

    It takes one forward and one backward by the input per iteration, area and target. Of `config` it reads `step_count`
    and `areas`; clips shorter than the core's 7 frames get a core of their own length. Maps are in [0, 1], the share of
    each voxel that is kept. With several areas their masks are summed, blurred with a sigma of 10 pixels per frame, and
    divided by the maximum of the clip. See `Comparator`.
    """
    logits, targets = clean_answer(model, video, config, resolve)
    search = _Search(model, video, config, targets)
    batches = BatchSize(config.batch_size, video.device)
    for _ in range(config.step_count):
        batches.run(len(search.areas), search.descend)
        search.iteration += 1
    kept = search.masks().unflatten(0, (len(targets), len(config.areas), len(video)))
    return logits, targets, list(kept[:, 0] if len(config.areas) == 1 else _summed(kept))


def _summed(kept: Tensor) -> Tensor:
    """(targets, areas, B, T, H, W) to (targets, B, T, H, W)."""
    blurred = blur_frames(kept.sum(1), SUM_BLUR)
    return blurred / blurred.amax((2, 3, 4), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


class _Search:
    """The masks of all targets, areas and clips, in this order, side by side: their energies are added up."""

    def __init__(self, model: Model, video: Tensor, config: Config, targets: list[ResolvedTarget]) -> None:
        B, _, T, H, W = video.shape
        self.model = model
        self.dtype, self.layout = input_format(model, config.dtype)
        self.pyramid = blur_pyramid(video)
        self.mask = SmoothMask(H, W, video.device)
        repeats = len(config.areas)
        self.areas = [area for _ in targets for area in config.areas for _ in range(B)]
        self.clips = list(range(B)) * (len(targets) * repeats)
        self.index = torch.cat([target.index.repeat(repeats) for target in targets]).to(video.device)
        # -1 for targets that are no difference.
        minus = [torch.full((B,), -1, device="cpu") if target.minus is None else target.minus for target in targets]
        self.minus = torch.cat([indices.repeat(repeats).to(video.device) for indices in minus])
        self.on_its_own = config.score_name == "sigmoid"
        self.cells = video.new_ones(len(self.areas), T, *self.mask.grid)
        self.momentum = torch.zeros_like(self.cells)
        self.iteration = 0

    def descend(self, begin: int, end: int) -> None:
        """One iteration of the rows from `begin` to `end`."""
        cells = self.cells[begin:end].clone().requires_grad_()
        with torch.enable_grad():
            padded = self.mask(cells)
            slope = self._model_slope(self.mask.crop(padded.detach()), begin, end)
            weight = VOLUME_WEIGHT * VOLUME_GROWTH**self.iteration
            energy = weight * volume_energy(padded, self.areas[begin:end])
            if self.iteration >= CORE_START:
                energy = energy + CORE_WEIGHT * core_energy(padded, self.areas[begin:end])
            (grad,) = torch.autograd.grad([energy, self.mask.crop(padded)], cells, [torch.ones_like(energy), slope])
        momentum = self.momentum[begin:end]
        if self.iteration:
            momentum.mul_(MOMENTUM).add_(grad, alpha=1 - DAMPENING)
        else:
            momentum.copy_(grad)  # as in torch.optim.SGD, the first gradient is not dampened
        self.cells[begin:end].sub_(momentum, alpha=RATE).clamp_(0, 1)

    def _model_slope(self, mask: Tensor, begin: int, end: int) -> Tensor:
        """The gradient of -log p by the mask (R, T, H, W)."""
        mask = mask.clone().requires_grad_()
        batch = self._blurred(mask, begin).to(dtype=self.dtype, memory_format=self.layout)
        surprise = self._surprise(call_model(self.model, batch), begin, end)
        slope = None
        if surprise.requires_grad:
            with model_errors(NO_GRADIENT):
                (slope,) = torch.autograd.grad(surprise, mask, allow_unused=True)
        if slope is None:
            raise InputError("model must be differentiable by its input for this method; use method=aosa")
        if not is_finite(slope):
            raise InputError("model must have a finite gradient by its input; got NaN or infinity")
        return slope

    def _blurred(self, mask: Tensor, begin: int) -> Tensor:
        """(R, C, T, H, W): each voxel between the two levels of blur that its mask lies between."""
        place = mask.unsqueeze(1) * (LEVELS - 1)
        below = place.detach().floor().clamp(max=LEVELS - 2)
        sharper, blurrier = [], []
        for row, level in enumerate(below.long().expand(-1, self.pyramid.shape[2], -1, -1, -1)):
            levels = self.pyramid[self.clips[begin + row]]
            blurrier.append(levels.gather(0, level.unsqueeze(0)))
            sharper.append(levels.gather(0, level.unsqueeze(0) + 1))
        return torch.lerp(torch.cat(blurrier), torch.cat(sharper), place - below)

    def _surprise(self, logits: Tensor, begin: int, end: int) -> Tensor:
        """The sum of the rows' -log p."""
        index, minus = (indices[begin:end].unsqueeze(1) for indices in (self.index, self.minus))
        values = functional.logsigmoid(logits) if self.on_its_own else logits.log_softmax(-1)
        among_all = values.gather(1, index)
        among_two = functional.logsigmoid(logits.gather(1, index) - logits.gather(1, minus.clamp(min=0)))
        return -torch.where(minus < 0, among_all, among_two).sum()

    def masks(self) -> Tensor:
        """(R, T, H, W) float32, on the frames."""
        with torch.no_grad():
            return self.mask.crop(self.mask(self.cells)).contiguous()


def volume_energy(padded: Tensor, areas: list[float]) -> Tensor:
    """How far the sorted values of each mask are from the area's share of ones and else zeros, mean square.

    That is, the largest values are drawn to 1 and all others to 0. The original shuffles before it sorts, so that
    chance decides between equal values; here they share out the ones, which is the mean over all shuffles, but for a
    constant. Nothing has to be sorted for it either.

    Args:
        padded: (R, T, S_y, S_x) float32.
        areas: share of the values to keep, one per mask.

    Returns:
        (R,) float32.
    """
    values = padded.flatten(1)
    top = _share_of_top(values.detach(), [round(area * values.shape[1]) for area in areas])
    return (values.square() - 2 * top * values + top).mean(1)


def core_energy(padded: Tensor, areas: list[float]) -> Tensor:
    """Draws the kept volume into ellipsoids of 7 frames x 11 x 11 pixels, so that it does not jump from frame to frame.

    The mask's means over the ellipsoids that fit, one frame and 11 pixels apart: as many as the area's volume holds are
    drawn to 1, all others to 0, as mean squares of their own.

    Args:
        padded: (R, T, S_y, S_x) float32, S at least 11. If T is less than 7, the ellipsoids have T frames.
        areas: share of the volume to keep, one per mask.

    Returns:
        (R,) float32.
    """
    R, T = padded.shape[:2]
    shape = (min(CORE[0], T), *CORE[1:])
    inside = _ellipsoid(shape).to(padded.device)
    rows, columns = (size // side for size, side in zip(padded.shape[2:], CORE[1:], strict=True))
    blocks = padded[..., : rows * CORE[1], : columns * CORE[2]].unflatten(3, (columns, -1)).unflatten(2, (rows, -1))
    # A matrix product in float64, which no setting of the model's precision reaches; of few and small values.
    slices = blocks.transpose(3, 4).flatten(4).double() @ inside.flatten(1).T
    length = T - shape[0] + 1
    sums = torch.stack([slices[:, j : j + length, ..., j] for j in range(shape[0])]).sum(0)
    means = (sums / inside.sum()).float().reshape(R, -1)
    volume = int(shape[0] * shape[1] * shape[2] * pi / 6)
    counts = [min(ceil(area * padded[0].numel() / volume), means.shape[1]) for area in areas]
    top = _share_of_top(means.detach(), counts)
    kept = torch.tensor(counts, device=padded.device)
    up = (top * (means - 1).square()).sum(1) / kept
    return up + ((1 - top) * means.square()).sum(1) / (means.shape[1] - kept).clamp(min=1)


def _ellipsoid(shape: tuple[int, ...]) -> Tensor:
    """1.0 for voxels whose centre is inside of the ellipsoid that touches the sides of a box, else 0.0; float64."""
    axes = [
        ((torch.arange(size, dtype=torch.float32, device="cpu") - (size - 1) / 2) / (size / 2)).double() ** 2
        for size in shape
    ]
    distance = axes[0].reshape(-1, 1, 1) + axes[1].reshape(-1, 1) + axes[2]
    return (distance <= 1).double()


def _share_of_top(values: Tensor, counts: list[int]) -> Tensor:
    """(R, n) float32: 1 for the count largest values of each row, 0 for others; values that tie share what is left."""
    result = torch.empty_like(values)
    for count in set(counts):
        rows = [row for row, wanted in enumerate(counts) if wanted == count]
        own = values[rows]
        least = own.topk(min(max(count, 1), own.shape[1]), sorted=False).values.amin(1, keepdim=True)
        above, ties = own > least, own == least
        share = (count - above.sum(1, keepdim=True)).to(values.dtype) / ties.sum(1, keepdim=True)
        result[rows] = above + share * ties
    return result
