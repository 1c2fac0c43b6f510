"""Several explanations of the same clips, one below the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from aosa_fast.display.shown import Shown, check_clip, map_of, picture_html, pictures_of
from aosa_fast.errors import InputError, brief

E = TypeVar("E", bound=Shown)
_NEAR = 1e-3  # probabilities that differ by less are one: models round otherwise in other batches


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Generic[E]):
    """Explanations of the same clips and targets, for a picture with a row for each; a notebook shows that of clip 0.

    Attributes:
        explanations: by name, in the order of the rows.

    Raises:
        InputError: none, or explanations of other clips, targets or sizes than those of the first; named.
    """

    explanations: dict[str, E]

    def __post_init__(self) -> None:
        if not self.explanations:
            raise InputError("explanations must be at least one; got none")
        (_, first), *others = self.explanations.items()
        for name, other in others:
            size, own = tuple(first.saliency.shape), tuple(other.saliency.shape)
            if own != size:
                raise InputError(f"{name}: must be of the same clips, with maps of {size}; got {own}")
            if not np.array_equal(other.frames, first.frames):
                raise InputError(f"{name}: must be of the same clips; got other frames")
            if any(other.metadata[part] != first.metadata[part] for part in ("target_index", "minus_index")):
                wanted, got = (brief(", ".join(one.metadata["target"])) for one in (first, other))
                raise InputError(f"{name}: must be of the same target, {wanted}; got {got}")

    @classmethod
    def of(cls, first: E, others: E | Iterable[E] | Mapping[str, E]) -> Comparison[E]:
        """What `first.compare(others)` gives."""
        several = [others] if isinstance(others, str) or not isinstance(others, Iterable) else others
        listed: list[Any] = [first, *(several.values() if isinstance(several, Mapping) else several)]
        for one in listed:
            if not isinstance(one, Shown):
                raise InputError(f"others must be explanations; got {brief(one)}: see aosa_fast.compare for methods")
        named = isinstance(several, Mapping)
        own = [first.config.method, *several] if named else [_name(one, listed) for one in listed]
        names = [str(name) for name in own]
        if len(set(names)) < len(names):
            raise InputError(f"others must have names that differ, as in {{'mine': other}}; got {', '.join(names)}")
        return cls(dict(zip(names, listed, strict=True)))

    def __repr__(self) -> str:
        return f"<Comparison of {brief(', '.join(self.explanations))}: {brief(self._title(0))}>"

    def _repr_html_(self) -> str:
        """For notebooks: the sheet of the first clip, as a picture that is part of the page."""
        rest = len(next(iter(self.explanations.values())).saliency) - 1
        more = f"<div>{rest} more: .save(path, clip=1) and on</div>" if rest else ""
        return picture_html(self.sheet(), "max-width:100%", repr(self)) + more

    def sheet(self, *, clip: int = 0, columns: int = 4, title: str | None = None) -> NDArray[np.uint8]:
        """The frames of a clip in a row, and below them a row of overlays for each explanation.

        Each row has colours for its own largest values, since methods have different units; it says which.

        Args:
            clip: which clip of the batch.
            columns: frames shown, evenly spread, 1 to 16.
            title: one line; default: what is explained, with its probability.

        Returns:
            (h, w, 3) uint8, RGB.

        Raises:
            InputError: no such clip, or `columns` out of range.
        """
        from aosa_fast.video.comparison import comparison_sheet

        shown = [*self.explanations.values()]
        check_clip(shown[0], clip)
        rows = []
        one_p = self._one_probability(clip)
        for name, one in self.explanations.items():
            units = one.config.unit + ("" if one_p else f"; p = {one.metadata['probability'][clip]:.3f}")
            rows.append((name, map_of(one, clip), units))
        best = next((one for one in shown if one.display is not None), shown[0])
        return comparison_sheet(pictures_of(best, clip), rows, title=title or self._title(clip), columns=columns)

    def save(self, path: str | PathLike[str], *, clip: int = 0, columns: int = 4, title: str | None = None) -> None:
        """Writes the sheet as a picture, under a temporary name first: .png, .jpg or .webp.

        Args:
            path: the file.
            clip: this and the rest as for `sheet`.
            columns: see there.
            title: see there.

        Raises:
            InputError: another suffix, the file cannot be written, or as `sheet`.
        """
        from aosa_fast.video import write_image

        write_image(path, self.sheet(clip=clip, columns=columns, title=title))

    def _title(self, clip: int) -> str:
        """What is explained of a clip, with the probability where all have the same."""
        facts = next(iter(self.explanations.values())).metadata
        probability = f"  (p = {facts['probability'][clip]:.3f})" if self._one_probability(clip) else ""
        return f"why {facts['target'][clip]}?{probability}"

    def _one_probability(self, clip: int) -> bool:
        found = [one.metadata["probability"][clip] for one in self.explanations.values()]
        return bool(max(found) - min(found) < _NEAR)


def _name(one: Shown, beside: list[Shown]) -> str:
    """The method, with the choices in which it differs from the first of that method: "aosa:stride=4"."""
    first = next(other for other in beside if other.config.method == one.config.method)
    own, usual = one.config.as_dict(), first.config.as_dict()
    return ":".join([one.config.method, *(f"{name}={own[name]}" for name in own if own[name] != usual[name])])
