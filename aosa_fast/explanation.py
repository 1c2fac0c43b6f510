"""What an explanation holds, and how it is kept and shown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.boundary import read_arrays, reading
from aosa_fast.config import FLOWS, Config
from aosa_fast.display.comparison import Comparison
from aosa_fast.display.shown import Shown, check_clip
from aosa_fast.errors import InputError
from aosa_fast.methods.maps import make_map
from aosa_fast.methods.regression import agreement
from aosa_fast.methods.selfcheck import is_saturated
from aosa_fast.methods.tubes import Tubes
from aosa_fast.provenance import describe_target
from aosa_fast.targets import ResolvedTarget, Target, class_scores, probabilities, resolve_target


@dataclass(eq=False, repr=False)
class Explanation(Shown):
    """A saliency video and all that led to it, for a batch of B clips; tensors are where the explained video was.

    The comparators that have no tubes leave N = 0, and a coverage of 1 everywhere; OSA's cuboids are its tubes. Where
    the user gave masks, `boxes` are their pieces: more rows than tubes, each of one tube.

    A notebook shows the overlays as videos; `show`, `plot`, `save_overlay` and `compare` are for all else. `metadata`
    has every choice, and what was found, in plain types.

    Attributes:
        saliency: (B, T, H, W) float32, signed, in units of the score (`Config.unit` for the comparators);
            comparable across clips.
        scores: (B, N) float32, importance of each tube: the drop of the score when it is hidden.
        tracks: (B, N, T, 2) float32, (x, y) of each anchor, pixels.
        alive: (B, N, T) bool, False once the anchor has left the frame.
        boxes: (B, N, T, 4) int32, (x0, y0, x1, y1), pixels, half-open; empty where not alive.
        members: (B, N, K+1) int32, rows of `boxes` joined into each tube; -1 pads.
        coverage: (B, T, H, W) int32, how many tubes cover each voxel. Where 0, the map says nothing.
        logits: (B, n_classes) float32, what the model returns for the whole clip.
        class_score_samples: (B, N, S, n_classes) float32, score of every class with each tube hidden (exact method
            only, else None); S random fills, or 1.
        relevance: (B, T, H, W) float32, the field that the tubes integrate (first-order methods only, else None).
        exact: (B, N) bool, which scores are exact, all others being estimates (`budget_ms` only, else None).
        estimate_error: (B, N) float32, standard errors of the estimates, 0 where exact, NaN where nothing was asked of
            the clip (`budget_ms` only, else None).
        target: the explained classes, by index: `target.index` (B,), and `target.minus` (B,) of a `Difference`.
        frames: (B, T, H, W, 3) uint8, the pictures that the optical flow saw.
        class_names: by index, or None.
        display: (B, T, H', W', 3) uint8, the same part of these frames in the resolution of the explained file, no side
            above 1280 pixels, for overlays; None where no file was given, and after `load`. Set it to None where many
            explanations are kept.
        config: every choice.
        facts: `metadata`, or what makes it.
    """

    saliency: Tensor
    scores: Tensor
    tracks: Tensor
    alive: Tensor
    boxes: Tensor
    members: Tensor
    coverage: Tensor
    logits: Tensor
    class_score_samples: Tensor | None
    relevance: Tensor | None
    target: ResolvedTarget
    frames: NDArray[np.uint8]
    config: Config
    exact: Tensor | None = None
    estimate_error: Tensor | None = None
    class_names: tuple[str, ...] | None = None
    display: NDArray[np.uint8] | None = None
    facts: dict[str, Any] | Callable[[], dict[str, Any]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "facts": self.metadata}

    @property
    def clean_scores(self) -> Tensor:
        """(B, n_classes): score of every class for the whole clip."""
        return class_scores(self.logits, self.config.score_name)

    @property
    def output(self) -> str:
        """What the model returned: "logits", or "softmax" or "sigmoid" where it applies these itself."""
        return str(self.metadata.get("self_check", {}).get("output", "logits"))

    @property
    def probabilities(self) -> Tensor:
        """(B, n_classes): of every class for the whole clip; those of classes on their own for score="sigmoid"."""
        return probabilities(self.logits, self.config.score_name, self.output)

    @property
    def class_scores(self) -> Tensor | None:
        """(B, N, n_classes): score of every class with each tube hidden, the mean over random fills; exact only."""
        return None if self.class_score_samples is None else self.class_score_samples.mean(2)

    @property
    def standard_error(self) -> Tensor | None:
        """(B, N): standard error of `scores`, over the random fills or of what `budget_ms` left to an estimate.

        None without either. That of an estimate is its own, scaled by its misses so far: not a bound.
        """
        if self.estimate_error is not None:
            return self.estimate_error
        if self.class_score_samples is None or self.class_score_samples.shape[2] < 2:
            return None
        drawn = self.target.pick(self.class_score_samples)
        error: Tensor = drawn.std(dim=2) / drawn.shape[2] ** 0.5
        return error

    @property
    def agreement(self) -> Tensor | None:
        """(B,): estimated Pearson correlation of `scores` with those of exact AOSA (`budget_ms` only, else None).

        sqrt(t / (t + v)), t the squared spread of the scores and v the sum of their squared standard errors; NaN where
        nothing was asked of the clip.
        """
        return None if self.estimate_error is None else agreement(self.scores, self.estimate_error)

    def for_target(self, target: Target) -> Explanation:
        """The explanation of another class, or of a `Difference`, from the same sweep: no further forward.

        Raises:
            InputError: the method was not exact AOSA, a budget left some tubes to an estimate, or the target is out of
                range.
        """
        if self.exact is not None and not self.exact.all():
            raise InputError(
                f"for_target must have exact scores of all tubes; budget_ms={self.config.budget_ms:g} left "
                f"{int((~self.exact).sum())} of {self.exact.numel()} to an estimate for the explained target alone"
            )
        if self.class_score_samples is None or self.class_scores is None:
            raise InputError(f"for_target must have the class scores of method=aosa or osa; got {self.config.method}")
        resolved = resolve_target(target, self.logits, self.class_names)
        clean = resolved.pick(self.clean_scores)
        scores = clean.unsqueeze(1) - resolved.pick(self.class_scores)
        tubes = Tubes(self.tracks, self.alive, self.boxes, self.members)
        saliency, coverage = make_map(scores, clean, tubes, self.config, *self.saliency.shape[2:])
        score, output = self.config.score_name, self.output
        check = {**self.metadata["self_check"], "saturated": is_saturated(self.logits, resolved, self.config, output)}
        described = describe_target(self.logits, resolved, self.class_names, score, output)
        facts = {**self.metadata, **described, "self_check": check}
        return replace(self, saliency=saliency, scores=scores, coverage=coverage, target=resolved, facts=facts)

    def clip(self, index: int) -> Explanation:
        """The explanation of one clip of the batch, as a batch of one, in memory of its own.

        Raises:
            InputError: no such clip.
        """
        check_clip(self, index)
        if len(self.saliency) == 1:
            return self

        def own(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[index : index + 1].clone()

        parts: dict[str, Any] = {name: own(getattr(self, name)) for name in (*_TENSORS, *_OPTIONAL)}
        return replace(
            self,
            **parts,
            target=self.target.take([index]),
            frames=self.frames[index : index + 1].copy(),
            display=None if self.display is None else self.display[index : index + 1].copy(),
            facts=_facts_of_clip(self.metadata, index),
        )

    def compare(
        self, others: Explanation | Iterable[Explanation] | Mapping[str, Explanation]
    ) -> Comparison[Explanation]:
        """This explanation beside others of the same clips and target, in one picture: see `Comparison`.

        Args:
            others: one or several, which get the names of their methods, with the choices that differ; or by names of
                your own. `aosa_fast.compare` makes them by the methods' names.

        Raises:
            InputError: other clips, targets or sizes, two of one name, or something else than explanations.
        """
        return Comparison.of(self, others)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes everything to one `.npz` file, under a temporary name first.

        Raises:
            InputError: the folder cannot be written, the disk is full, or the suffix is not .npz.
        """
        from aosa_fast.video import atomic_path

        if not str(path).endswith(".npz"):
            raise InputError(f"{path}: must end in .npz")
        arrays: dict[str, Any] = {name: getattr(self, name).cpu().numpy() for name in _TENSORS}
        for name in _OPTIONAL:
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name).cpu().numpy()
        if isinstance(self.config.fill, Tensor):
            arrays["fill"] = self.config.fill.detach().float().cpu().numpy()
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, frames=self.frames, metadata=np.array(json.dumps(self.metadata)), **arrays)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Explanation:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing or is not an explanation.
        """
        with reading(path, "must be an explanation saved by aosa_fast"):
            arrays = read_arrays(path)
            _check_layout(arrays)
            return cls._from_arrays(arrays)

    @classmethod
    def _from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Explanation:
        metadata = json.loads(str(arrays["metadata"]))
        parts: dict[str, Any] = {name: torch.from_numpy(arrays[name]) for name in _TENSORS}
        for name in _OPTIONAL:
            parts[name] = torch.from_numpy(arrays[name]) if name in arrays else None
        choices = dict(metadata["config"])
        if "fill" in arrays:
            choices["fill"] = torch.from_numpy(arrays["fill"])
        if choices["flow"] not in FLOWS:  # the user's own flow is named in the metadata, and is not kept
            del choices["flow"]
        first, second = metadata["target_index"], metadata["minus_index"]
        for index in (first, second or first):
            if len(index) != len(arrays["logits"]) or not all(0 <= i < arrays["logits"].shape[1] for i in index):
                raise ValueError(f"target_index and minus_index: {first}, {second}")
        return cls(
            **parts,
            target=ResolvedTarget(
                torch.tensor(first, device="cpu"), None if second is None else torch.tensor(second, device="cpu")
            ),
            frames=arrays["frames"],
            config=Config.from_dict(choices),
            class_names=tuple(metadata["class_names"]) if metadata["class_names"] else None,
            facts=metadata,
        )


# What `metadata` has of each clip, in a list; None where there is nothing to say.
_PER_CLIP = (
    "target", "target_index", "minus_index", "probability", "prediction", "prediction_probability",
)  # fmt: skip
_CHECKS_PER_CLIP = ("uncovered_share", "saturated", "exact", "detail", "budget")


def _facts_of_clip(facts: dict[str, Any], index: int) -> dict[str, Any]:
    """The metadata of one clip, as if it had been alone; times are those of the batch."""

    def cut(part: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        return part | {name: part[name][index : index + 1] for name in names if part.get(name) is not None}

    check = cut(facts.get("self_check", {}), _CHECKS_PER_CLIP)
    return cut(facts, _PER_CLIP) | {"shape": facts["shape"] | {"B": 1}, "self_check": check}


# Axes of the arrays, of one length where they have one letter, and the kind of their numbers.
_TENSORS = {
    "saliency": ("BTHW", "f"),
    "scores": ("BN", "f"),
    "tracks": ("BNT2", "f"),
    "alive": ("BNT", "b"),
    "boxes": ("BMT4", "i"),
    "members": ("BNK", "i"),
    "coverage": ("BTHW", "i"),
    "logits": ("BC", "f"),
}
_OPTIONAL = {
    "class_score_samples": ("BNSC", "f"),
    "relevance": ("BTHW", "f"),
    "exact": ("BN", "b"),
    "estimate_error": ("BN", "f"),
}


def _check_layout(arrays: dict[str, NDArray[Any]]) -> None:
    sides: dict[str, int] = {"2": 2, "3": 3, "4": 4}
    for name, (axes, kind) in {**_TENSORS, **_OPTIONAL, "frames": ("BTHW3", "u")}.items():
        if name in _OPTIONAL and name not in arrays:
            continue
        array = arrays[name]
        fits = len(axes) == array.ndim and all(
            sides.setdefault(axis, side) == side for axis, side in zip(axes, array.shape, strict=True)
        )
        if not fits or array.dtype.kind != kind:
            raise ValueError(f"{name} {array.shape} of {array.dtype}")
