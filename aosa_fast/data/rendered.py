"""Rendered clips as a data set: any number of them, each with the boxes of what moves."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from aosa_fast.data.dataset import Clip, Dataset, Part, Sample, check_counts
from aosa_fast.demo import CLASS_NAMES
from aosa_fast.errors import InputError

if TYPE_CHECKING:
    from aosa_fast.demo.render import RenderedClip
    from aosa_fast.demo.scene import Scene
    from aosa_fast.models.preprocess import Preprocessing

SEEDS = 1_000_000  # clips that a seed of a data set has for itself
_SMALLEST = {"size": 16, "distractors": 0, "pan": 0.0, "noise": 0.0, "spread": 0.0}
# Harder than the embedded clip: with paths near the middle, a blob in the middle of the frame did as well as Grad-CAM.
_DEFAULTS = {"distractors": 6, "pan": 0.0, "noise": 4.0, "spread": 0.35}
_DEFAULTS_OF_OTHERS = {"distractors": 2, "pan": 0.0, "noise": 4.0, "spread": 0.25}  # of the kinds with several movers


@dataclass(frozen=True, eq=False)
class SeededDataset(Dataset):
    """Clips of the embedded networks' classes, each rendered from its own seed when it is read.

    Attributes:
        kind: of the clips, for messages.
        count: how many there are where nobody says.
        first: seed of the first clip.
    """

    kind: ClassVar[str]
    count: ClassVar[int]
    first: int = 0

    def read(self, sample: Sample, preprocessing: Preprocessing) -> Clip:
        """Render a clip, and bring it to the model's size.

        Raises:
            InputError: scikit-image is missing, or such a clip cannot be rendered for this model.
        """
        if sample.seed is None:
            raise InputError(f"sample {sample.id} must have a seed; got None")
        clip = self._render(sample.seed, sample.label, preprocessing)
        boxes = preprocessing.map_boxes(clip.boxes[:, None], *clip.frames.shape[1:3])
        indices = np.arange(preprocessing.frames, dtype=np.int64)
        parts = partial(self._parts, clip, preprocessing)
        return Clip(preprocessing.cropped(clip.frames), boxes, indices, parts=parts)

    def select(self, per_class: int | None = None, limit: int | None = None, seed: int = 0) -> Self:
        """The first clips of the set; the classes take turns, so that any number of clips is balanced.

        Args:
            per_class: so many of each class, or None.
            limit: so many in all, or None; without either, `count`.
            seed: not used; the set's own SEED says which clips there are.

        Raises:
            InputError: a number below 1, or more clips than a set has.
        """
        check_counts(per_class, limit)
        counts = [per_class * len(CLASS_NAMES)] if per_class is not None else []
        counts += [limit] if limit is not None else []
        count = min(counts, default=self.count)
        if count > SEEDS:
            raise InputError(f"a {self.kind} set must have at most {SEEDS} clips; got {count}")
        return replace(self, samples=tuple(map(self._sample, range(count))))

    def _parts(self, clip: RenderedClip, preprocessing: Preprocessing) -> list[Part]:
        """The things of a clip's scene, each with the clip without it."""
        shown = preprocessing.cropped(clip.frames)
        parts = []
        for name, frames, stopped in self._changed(clip):
            absent = preprocessing.cropped(frames)
            # The noise is the same: only where the part can be seen do the two differ.
            region = (shown != absent).any(axis=3)
            parts.append(Part(name, region, absent, None if stopped is None else preprocessing.cropped(stopped)))
        return parts

    def _changed(self, clip: RenderedClip) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8] | None]]:
        """Per part its name, the frames without it, and, of what moves, those in which it stands still."""
        scene = clip.scene
        for number, thing in enumerate(scene.things):
            stopped = self._drawn(clip, scene.stopped(number)) if thing.moves else None
            yield thing.name, self._drawn(clip, scene.without(number)), stopped

    def _drawn(self, clip: RenderedClip, scene: Scene) -> NDArray[np.uint8]:
        """The frames of a clip whose scene was changed."""
        return scene.render()

    def _render(self, seed: int, label: int | None, preprocessing: Preprocessing) -> RenderedClip:
        raise NotImplementedError

    def _sample(self, number: int) -> Sample:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class RenderedDataset(SeededDataset):
    """Clips of `aosa_fast.demo.render`, by default at the model's size, with as many frames as the model sees.

    Attributes:
        options: of `render_clip`: size, distractors, pan, noise, spread.
        split: "test", or "train", from which the embedded networks come.
        scenes: the kind of the scenes, see `aosa_fast.demo.kinds`.
    """

    kind = "rendered"
    count = 200
    options: tuple[tuple[str, int | float], ...] = ()
    split: str = "test"
    scenes: str = "one"

    def _render(self, seed: int, label: int | None, preprocessing: Preprocessing) -> RenderedClip:
        from aosa_fast.demo.render import render_clip

        defaults = _DEFAULTS if self.scenes == "one" else _DEFAULTS_OF_OTHERS
        options: dict[str, Any] = {"size": preprocessing.size, **defaults, **dict(self.options)}
        frames = preprocessing.frames
        return render_clip(seed, label=label, frames=frames, split=self.split, kind=self.scenes, **options)

    def _sample(self, number: int) -> Sample:
        seed = self.first + number
        return Sample(f"rendered/{seed:07d}", None, seed % len(CLASS_NAMES), seed=seed)


def open_rendered(rest: str, split: str | None) -> RenderedDataset:
    """The rendered set.

    Args:
        rest: "[SEED][:key=value...]". Clips of SEED (default 0) are those of the consecutive seeds from
            SEED * 1 000 000 on; keys are kind, that of the scenes (one; see `aosa_fast.demo.kinds`), size, side of the
            rendered frames in pixels (default: the model's), and distractors (6; 2 where several move), spread (0.35;
            0.25), pan (0) and noise (4) as in `aosa_fast.demo.render_clip`.
        split: "test" (default) or "train", which share no texture.

    Raises:
        InputError: anything else.
    """
    name = (f"rendered:{rest}" if rest else "rendered") + (" (train)" if split == "train" else "")
    from aosa_fast.demo.kinds import KINDS

    if split not in (None, "test", "train"):
        raise InputError(f"split must be test or train for the rendered set; got {split}")
    parts = rest.split(":") if rest else []
    seed = int(parts.pop(0)) if parts and re.fullmatch("[0-9]{1,9}", parts[0]) else 0
    options: dict[str, int | float] = {}
    scenes = "one"
    for part in parts:
        key, _, text = part.partition("=")
        if key == "kind":
            if text not in KINDS:
                raise InputError(f"kind of {name} must be one of {', '.join(KINDS)}; got {text!r}")
            scenes = text
            continue
        if key not in _SMALLEST or key in options:
            raise InputError(
                f"{name} must be rendered[:SEED][:key=value...], keys kind, {', '.join(_SMALLEST)}; got {part!r}"
            )
        options[key] = _number(name, key, text)
    given = tuple(options.items()), split or "test", scenes
    return RenderedDataset(name, KINDS[scenes].classes, (), 0, seed * SEEDS, *given).select()


def _number(name: str, key: str, text: str) -> int | float:
    smallest = _SMALLEST[key]
    kind = type(smallest)
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not smallest <= value < 1e6:
        whole = "a whole number" if kind is int else "a number"
        raise InputError(f"{key} of {name} must be {whole}, at least {smallest}; got {text!r}")
    return value
