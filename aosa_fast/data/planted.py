"""Rendered clips with planted shortcuts and wrong labels, as a data set: to try out an audit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from aosa_fast.data.dataset import Sample
from aosa_fast.data.rendered import SEEDS, SeededDataset
from aosa_fast.demo import CLASS_NAMES
from aosa_fast.errors import InputError

if TYPE_CHECKING:
    from aosa_fast.demo.render import RenderedClip
    from aosa_fast.demo.scene import Scene
    from aosa_fast.models.preprocess import Preprocessing

_WRONG = 0.02


@dataclass(frozen=True, eq=False)
class PlantedDataset(SeededDataset):
    """Clips of `aosa_fast.demo.planted`, of 16 frames of 64x64 pixels.

    Attributes:
        plan_seed: of the cues.
        wrong: share of clips whose label is not their class.
    """

    kind = "planted"
    count = 300
    plan_seed: int = 0
    wrong: float = _WRONG

    def _render(self, seed: int, label: int | None, preprocessing: Preprocessing) -> RenderedClip:
        from aosa_fast.demo.planted import make_plan, render_planted

        clip = render_planted(make_plan(self.plan_seed), seed, label=true_label(seed))
        if len(clip.frames) != preprocessing.frames:
            raise InputError(f"model must see {len(clip.frames)} frames for planted clips; got {preprocessing.frames}")
        return clip

    def _drawn(self, clip: RenderedClip, scene: Scene) -> NDArray[np.uint8]:
        from aosa_fast.demo.planted import draw_cue, make_plan

        frames = scene.render()
        draw_cue(frames, clip, make_plan(self.plan_seed).cues[clip.label])
        return frames

    def _changed(self, clip: RenderedClip) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8] | None]]:
        from aosa_fast.demo.planted import make_plan

        yield from super()._changed(clip)
        cue = make_plan(self.plan_seed).cues[clip.label]
        if cue is not None:
            yield cue.kind, clip.scene.render(), None

    def _sample(self, number: int) -> Sample:
        seed = self.first + number
        rng = np.random.default_rng((80, seed))
        shift = int(rng.integers(1, len(CLASS_NAMES))) if rng.uniform() < self.wrong else 0
        label = (true_label(seed) + shift) % len(CLASS_NAMES)
        return Sample(f"planted/{self.plan_seed}/{number:06d}", None, label, seed=seed)


def open_planted(rest: str) -> PlantedDataset:
    """The set of a plan.

    Args:
        rest: "[SEED][:wrong=SHARE]"; networks that know the plan are shipped for the seeds of `demo.planted.SEEDS`.

    Raises:
        InputError: anything else.
    """
    match = re.fullmatch(r"([0-9]{1,9})?(?::?wrong=([0-9.]+))?", rest)
    try:
        seed, wrong = (int(match[1] or 0), float(match[2] or _WRONG)) if match else (0, -1.0)
    except ValueError:
        wrong = -1.0
    if not 0 <= wrong <= 1:
        raise InputError(f"data must be planted[:SEED][:wrong=SHARE], SHARE within 0..1; got planted:{rest}")
    name = f"planted:{rest}" if rest else "planted"
    # Behind all seeds that the networks' training or the rendered sets begin with.
    return PlantedDataset(name, CLASS_NAMES, (), 0, (6_000 + seed) * SEEDS, seed, wrong).select()


def true_label(seed: int) -> int:
    """The class that a clip shows, whatever its label says."""
    return seed % len(CLASS_NAMES)
