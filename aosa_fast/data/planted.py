"""Rendered clips with planted shortcuts and wrong labels, as a data set: to try out an audit."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from aosa_fast.data.dataset import Clip, Dataset, Sample, check_counts
from aosa_fast.demo import CLASS_NAMES
from aosa_fast.errors import InputError

if TYPE_CHECKING:
    from aosa_fast.models.preprocess import Preprocessing

DEFAULT_COUNT = 300
DEFAULT_WRONG = 0.02
_SEEDS = 1_000_000  # clips that a seed of the data set has for itself


@dataclass(frozen=True, eq=False)
class PlantedDataset(Dataset):
    """Clips of `aosa_fast.demo.planted`, made when they are read.

    Attributes:
        plan_seed: of the cues.
        wrong: share of clips whose label is not their class.
    """

    plan_seed: int = 0
    wrong: float = DEFAULT_WRONG

    def read(self, sample: Sample, preprocessing: Preprocessing) -> Clip:
        """Render a clip of 16 frames of 64x64 pixels, and bring it to the model's size.

        Raises:
            InputError: scikit-image is missing, or the model does not see 16 frames.
        """
        from aosa_fast.demo.planted import make_plan, render_planted

        if sample.seed is None:
            raise InputError(f"sample {sample.id} must have a seed; got None")
        clip = render_planted(make_plan(self.plan_seed), sample.seed, label=true_label(sample.seed))
        if len(clip.frames) != preprocessing.frames:
            raise InputError(f"model must see {len(clip.frames)} frames for planted clips; got {preprocessing.frames}")
        boxes = preprocessing.map_boxes(clip.boxes[:, None], *clip.frames.shape[1:3])
        return Clip(preprocessing.cropped(clip.frames), boxes, np.arange(preprocessing.frames, dtype=np.int64))

    def select(self, per_class: int | None = None, limit: int | None = None, seed: int = 0) -> Dataset:
        """The first clips of the set; the classes take turns. Arguments as in `RenderedDataset.select`.

        Raises:
            InputError: a number below 1, or more clips than a set has.
        """
        check_counts(per_class, limit)
        counts = [per_class * len(CLASS_NAMES)] if per_class is not None else []
        counts += [limit] if limit is not None else []
        count = min(counts, default=DEFAULT_COUNT)
        return replace(self, samples=_samples(self.plan_seed, self.wrong, count))


def open_planted(rest: str) -> PlantedDataset:
    """The set of a plan.

    Args:
        rest: "[SEED][:wrong=SHARE]"; networks that know the plan are shipped for the seeds of `demo.planted.SEEDS`.

    Raises:
        InputError: anything else.
    """
    match = re.fullmatch(r"([0-9]{1,9})?(?::?wrong=([0-9.]+))?", rest)
    try:
        seed, wrong = (int(match[1] or 0), float(match[2] or DEFAULT_WRONG)) if match else (0, -1.0)
    except ValueError:
        wrong = -1.0
    if not 0 <= wrong <= 1:
        raise InputError(f"data must be planted[:SEED][:wrong=SHARE], SHARE within 0..1; got planted:{rest}")
    name = f"planted:{rest}" if rest else "planted"
    return PlantedDataset(name, CLASS_NAMES, _samples(seed, wrong, DEFAULT_COUNT), plan_seed=seed, wrong=wrong)


def true_label(seed: int) -> int:
    """The class that a clip shows, whatever its label says."""
    return seed % len(CLASS_NAMES)


def _samples(plan_seed: int, wrong: float, count: int) -> tuple[Sample, ...]:
    if count > _SEEDS:
        raise InputError(f"a planted set must have at most {_SEEDS} clips; got {count}")
    # Behind all seeds that the networks' training or the rendered sets begin with.
    first = 6_000 * _SEEDS + plan_seed * _SEEDS
    return tuple(
        Sample(f"planted/{plan_seed}/{k:06d}", None, _label(first + k, wrong), seed=first + k) for k in range(count)
    )


def _label(seed: int, wrong: float) -> int:
    rng = np.random.default_rng((80, seed))
    shift = int(rng.integers(1, len(CLASS_NAMES))) if rng.uniform() < wrong else 0
    return (true_label(seed) + shift) % len(CLASS_NAMES)
