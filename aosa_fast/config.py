"""Every choice of an explanation in one place; the command line is made from these fields."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aosa_fast.errors import InputError

if TYPE_CHECKING:  # at run time the command line reads this module, and answers before torch is loaded
    from torch import Tensor

METHODS = ("aosa-approx", "aosa", "aosa-path")
SCORES = ("prob", "logit", "logprob", "margin")
FILLS = ("mean", "black", "blur", "conditional")
RELUS = ("element", "channel", "none", "eq8-literal")
AGGREGATES = ("sum", "mean", "eq2")
PARTNER_RULES = ("cosine", "motion-aware")
FLOWS = (
    "farneback",
    "farneback-opencv",
    "dis-ultrafast",
    "dis-fast",
    "dis-medium",
    "tvl1",
    "pcaflow",
    "deepflow",
    "simpleflow",
    "rlof",
)
DTYPES = ("float32", "tf32", "bfloat16")
COMPATS = ("authors2022",)
DEFAULT_FILL = {"aosa": "mean", "aosa-approx": "conditional", "aosa-path": "mean"}


def _choice(default: Any, help: str, choices: tuple[str, ...] | None = None, least: float | None = None) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "least": least})


def _chosen(name: str, value: Any, choices: tuple[str, ...]) -> bool:
    if isinstance(value, str):
        return value in choices
    return (value is None and name in ("fill", "compat", "dtype")) or (name == "fill" and hasattr(value, "expand_as"))


@dataclass(frozen=True, eq=False, kw_only=True)
class Config:
    """How to explain a clip. Sizes are in pixels of the model's input, defaults are the paper's.

    Raises:
        InputError: a value out of its range or not among its choices; the message names the field.
    """

    method: str = _choice(
        "aosa-approx",
        "aosa-approx: one gradient, first order. aosa: one forward per tube, exact. aosa-path: the mean gradient on "
        "the way to the fill, for scores that saturate.",
        METHODS,
    )
    stride: int = _choice(8, "Distance of the anchors in the first frame, pixels.", least=1)
    box: int | tuple[int, int] = _choice(16, "Side of the occluding box (or height and width), pixels.", least=1)
    partners: int = _choice(3, "How many tubes of like motion are joined to each tube; 0: single tubes.", least=0)
    partners_rule: str = _choice(
        "cosine",
        "cosine: the paper's co-occurrence. motion-aware: anchors that stay within --min-motion choose by nearness.",
        PARTNER_RULES,
    )
    min_motion: float = _choice(2.0, "For motion-aware partners: the reach that counts as motion, pixels.", least=0)
    fill: str | Tensor | None = _choice(
        None,
        "What hides a tube: mean (0 in model space), black, blur, or conditional (mean of the neighbourhood). "
        "Default: mean for aosa and aosa-path, conditional for aosa-approx.",
        FILLS,
    )
    radius: int = _choice(4, "Radius of the conditional mean, pixels.", least=0)
    samples: int = _choice(
        0, "For --method aosa --fill conditional: random fills per tube; 0: the mean itself.", least=0
    )
    score: str = _choice(
        "prob",
        "What the map measures: prob (softmax), logit, logprob, or margin (logit over the best other).",
        SCORES,
    )
    relu: str = _choice(
        "element",
        "For aosa-approx, the ReLU of Eq. 8: on each input element, after the channel sum, none, or as printed.",
        RELUS,
    )
    aggregate: str = _choice(
        "sum",
        "How tubes make the map: sum over N, mean over the tubes that cover a voxel, or eq2 (the paper's Eq. 2).",
        AGGREGATES,
    )
    flow: str = _choice(
        "farneback",
        "Optical flow method: farneback is this package's own, also on a GPU; all others are OpenCV's, and tvl1 to "
        "rlof need opencv-contrib.",
        FLOWS,
    )
    reseed: int = _choice(0, "Start a new grid of anchors every so many frames; 0: in the first only.", least=0)
    steps: int = _choice(8, "For aosa-path: points on the way to the fill.", least=1)
    batch_size: int = _choice(
        0,
        "Clips per forward of the model; 0: on a CPU one for each of torch's threads, at least 2, on a GPU what its "
        "free memory holds.",
        least=0,
    )
    dtype: str | None = _choice(
        None,
        "Precision of the model: float32 (without TF32), tf32, or bfloat16 (autocast). Default: as torch is set. "
        "Everything after the model is in float32 or better.",
        DTYPES,
    )
    check: int = _choice(0, "Hold this many tubes against their exact scores (aosa-approx, aosa-path).", least=0)
    seed: int = _choice(0, "Seed of the random fills.", least=0)
    compat: str | None = _choice(
        None, "authors2022: the authors' published code, with its rounding, partners and weights.", COMPATS
    )

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            self._check_field(item.name, getattr(self, item.name), item.metadata)
        if isinstance(self.box, tuple) and len(self.box) != 2:
            raise InputError(f"box must be one side, or height and width; got {self.box}")
        if self.samples and (self.method != "aosa" or self.fill != "conditional"):
            raise InputError(
                f"samples must be 0 unless method is aosa and fill conditional; got samples={self.samples}, "
                f"method={self.method}, fill={self.fill}"
            )
        if self.compat and (self.reseed or self.partners_rule != "cosine" or self.aggregate != "sum"):
            raise InputError("compat must come with reseed, partners_rule and aggregate as they are by default")
        if self.compat and self.method == "aosa-path":
            raise InputError("compat must be unset for method aosa-path, which the authors' code does not have")

    @staticmethod
    def _check_field(name: str, value: Any, metadata: Any) -> None:
        choices, least = metadata["choices"], metadata["least"]
        if choices and not _chosen(name, value, choices):
            raise InputError(f"{name} must be one of {', '.join(choices)}; got {value}")
        if least is not None:
            for number in value if isinstance(value, tuple) else (value,):
                whole = isinstance(number, int) and not isinstance(number, bool)
                if not (whole or (name == "min_motion" and isinstance(number, float))):
                    raise InputError(f"{name} must be a whole number; got {number!r}")
                if not number >= least:
                    raise InputError(f"{name} must be at least {least}; got {number}")

    @property
    def box_size(self) -> tuple[int, int]:
        """(h, w) of the occluding box, pixels."""
        return self.box if isinstance(self.box, tuple) else (self.box, self.box)

    @property
    def fill_name(self) -> str:
        """The fill in use: its name, or "tensor"."""
        if self.fill is None:
            return DEFAULT_FILL[self.method]
        return self.fill if isinstance(self.fill, str) else "tensor"

    def as_dict(self) -> dict[str, Any]:
        """Every field in plain types, with the fill in use."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        return {**plain, "fill": self.fill_name, "box": list(self.box_size)}
