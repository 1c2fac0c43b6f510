"""Deletion and insertion: what is asked for, by name, and what comes out (paper IV-B; method: section 9)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from aosa_fast.config import SCORES
from aosa_fast.errors import InputError
from aosa_fast.methods.fills import BLUR_KERNEL, BLUR_SIGMA

_CHOICES = {
    "order": ("clip",),
    "ties": ("index",),
    "deletion": ("zero",),
    "insertion": ("blur", "fill"),
    "score": SCORES,
    "area": ("trapezoid / steps",),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every choice of a measurement.

    Attributes:
        name: what the result is called.
        steps: in how many equal parts the voxels are changed; the model is asked before the first and after each.
            After part k, round(k * n / steps) of the n voxels are changed, halves to even.
        order: "clip": all T*H*W voxels of a clip are ranked together, the most salient first.
        ties: "index": of equally salient voxels, the first in (T, H, W) order comes first.
        deletion: what replaces a voxel: "zero", 0 in model space, in all channels.
        insertion: what the voxels are put into: "blur", the clip with every frame blurred (Gaussian, 11 pixels wide,
            sigma 5), or "fill", what deletion ends with.
        score: what the curve shows: see `aosa_fast.targets.class_scores`.
        area: "trapezoid / steps": every part counts the same, so the area under a constant is that constant.

    Raises:
        InputError: a value that is not among the choices.
    """

    name: str
    steps: int = 28
    order: str = "clip"
    ties: str = "index"
    deletion: str = "zero"
    insertion: str = "blur"
    score: str = "prob"
    area: str = "trapezoid / steps"

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise InputError(f"steps must be a whole number of at least 1; got {self.steps!r}")
        for field, choices in _CHOICES.items():
            if getattr(self, field) not in choices:
                raise InputError(f"{field} must be one of {', '.join(choices)}; got {getattr(self, field)}")

    def as_dict(self) -> dict[str, Any]:
        """Every field in plain types, and the numbers of the blur where there is one."""
        plain = dataclasses.asdict(self)
        if self.insertion == "blur":
            plain |= {"blur_kernel": BLUR_KERNEL, "blur_sigma": BLUR_SIGMA, "blur_per": "frame"}
        return plain

    def voxels_changed(self, count: int) -> list[int]:
        """How many of `count` voxels are changed at each of the steps + 1 evaluations, from 0 to all."""
        return [round(k * count / self.steps) for k in range(self.steps + 1)]


PROTOCOLS = {
    protocol.name: protocol for protocol in (Protocol(name="aosa-28"), Protocol(name="aosa-28-fill", insertion="fill"))
}
"""The protocols of deletion and insertion by name: the paper's, and the one that inserts into the fill."""


def find_protocol(protocol: str | Protocol) -> Protocol:
    """The protocol of that name; a `Protocol` is passed on.

    Raises:
        InputError: an unknown name.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol not in PROTOCOLS:
        raise InputError(f"protocol must be one of {', '.join(PROTOCOLS)}, or a Protocol; got {protocol}")
    return PROTOCOLS[protocol]


@dataclass(frozen=True, eq=False)
class Curve:
    """The score of the target as voxels change; tensors are where the clip was.

    Attributes:
        fractions: (steps + 1,) float32, the share of the voxels that is changed, from 0 to 1.
        scores: (B, steps + 1) float32.
        area: (B,) float32, the area under the curve, in units of the score.
        metadata: in plain types, every choice of the protocol, the target, and its probability for the whole clip.
    """

    fractions: Tensor
    scores: Tensor
    area: Tensor
    metadata: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Overall:
    """Insertion less deletion. Of a map that knows nothing it should be near 0; see what a random map gets.

    Attributes:
        insertion: its curve.
        deletion: its curve.
    """

    insertion: Curve
    deletion: Curve

    @property
    def area(self) -> Tensor:
        """(B,) float32: insertion's area less deletion's, in units of the score."""
        return self.insertion.area - self.deletion.area

    @property
    def metadata(self) -> dict[str, Any]:
        """That of the curves."""
        return {**self.insertion.metadata, "curve": "insertion - deletion"}
