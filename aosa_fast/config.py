"""Every choice of an explanation in one place; the command line is made from these fields."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from aosa_fast.errors import InputError

if TYPE_CHECKING:  # at run time the command line reads this module, and answers before torch is loaded
    from torch import Tensor

AOSA_METHODS = ("aosa-approx", "aosa", "aosa-path")
COMPARATORS = (
    "grad-cam",
    "osa",
    "smoothgrad",
    "step",
    "attention-rollout",
    "gradient",
    "input-x-gradient",
    "integrated-gradients",
    "random",
    "centre",
)
METHODS = AOSA_METHODS + COMPARATORS
SCORES = ("prob", "logit", "logprob", "margin", "sigmoid")
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
CAM_WEIGHTS = ("frame", "global")
MOST = 2**31 - 1  # the largest whole number that the operators take
DEFAULT_FILL = {"aosa-approx": "conditional"}  # all others: mean
DEFAULT_SCORE = {"grad-cam": "logit"}  # all others: prob
DEFAULT_STEPS = {"aosa-path": 8, "integrated-gradients": 50, "step": 2000}


def _choice(
    default: Any, help: str, choices: tuple[str, ...] | None = None, least: float | None = None, panel: str = "how"
) -> Any:
    return field(default=default, metadata={"help": help, "choices": choices, "least": least, "panel": panel})


_OPTIONAL = ("fill", "compat", "dtype", "score", "steps")  # None leaves the choice to the method, or to torch
_FRACTIONS = ("min_motion", "noise", "cuboid_area", "areas")


def _plain(value: Any) -> Any:
    """Numbers of NumPy as Python's own, which JSON knows."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _chosen(name: str, value: Any, choices: tuple[str, ...]) -> bool:
    if isinstance(value, str):
        return value in choices
    return (value is None and name in _OPTIONAL) or (name == "fill" and hasattr(value, "expand_as"))


@dataclass(frozen=True, eq=False, kw_only=True)
class Config:
    """How to explain a clip. Sizes are in pixels of the model's input, defaults are the paper's.

    Raises:
        InputError: a value out of its range or not among its choices; the message names the field.
    """

    method: str = _choice(
        "aosa-approx",
        "aosa-approx: one gradient, first order. aosa: one forward per tube, exact. aosa-path: the mean gradient on "
        "the way to the fill, for scores that saturate. All others are there to compare with; random and centre know "
        "nothing of the model.",
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
    score: str | None = _choice(
        None,
        "What the map measures: prob (softmax), logit (what the model returns, as it is), logprob, margin (logit over "
        "the best other), or sigmoid (each class on its own, multi-label). Default: logit for grad-cam, prob for all "
        "others.",
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
    steps: int | None = _choice(
        None,
        "Points on the way to the fill (aosa-path: 8) or to 0 (integrated-gradients: 50), or iterations (step: 2000).",
        least=1,
    )
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
    seed: int = _choice(0, "Seed of the random fills, of smoothgrad's noise, and of the random map.", least=0)
    compat: str | None = _choice(
        None, "authors2022: the authors' published code, with its rounding, partners and weights.", COMPATS
    )
    layer: str | None = _choice(
        None,
        "For grad-cam: the layer's name in the model. Default: the last stage of the families known.",
        panel="other",
    )
    cam_weights: str = _choice(
        "frame", "For grad-cam: one weight per channel and frame, or per channel (global).", CAM_WEIGHTS, panel="other"
    )
    noise_samples: int = _choice(25, "For smoothgrad: how many noisy copies.", least=1, panel="other")
    noise: float = _choice(
        0.15, "For smoothgrad: standard deviation of the noise, in ranges of the clip.", least=0, panel="other"
    )
    areas: tuple[float, ...] = _choice(
        (0.1,), "For step: the share of the clip that is kept; several are summed.", least=0, panel="other"
    )
    cuboid_area: float = _choice(
        0.02, "For osa: the cuboid's side, as share of the frame's area; --stride is its step.", least=0, panel="other"
    )
    cuboid_frames: int = _choice(
        0, "For osa: the cuboid's length in frames; 0: half of the clip.", least=0, panel="other"
    )
    cuboid_step: int = _choice(2, "For osa: the cuboid's step in time, frames.", least=1, panel="other")

    def __post_init__(self) -> None:
        box: Any = self.box
        if isinstance(box, list):
            object.__setattr__(self, "box", tuple(box))
        for item in dataclasses.fields(self):
            if item.metadata["least"] is not None:
                object.__setattr__(self, item.name, _plain(getattr(self, item.name)))
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
        if self.compat and self.method not in ("aosa", "aosa-approx"):
            raise InputError(
                f"compat must be unset for method {self.method}: the authors' code has only aosa and aosa-approx"
            )
        if not isinstance(self.areas, tuple) or not self.areas or not all(0 < area < 1 for area in self.areas):
            raise InputError(f"areas must be shares between 0 and 1; got {self.areas}")
        if not 0 < self.cuboid_area <= 1:
            raise InputError(f"cuboid_area must be above 0 and at most 1; got {self.cuboid_area}")

    @staticmethod
    def _check_field(name: str, value: Any, metadata: Any) -> None:
        choices, least = metadata["choices"], metadata["least"]
        if choices and not _chosen(name, value, choices):
            raise InputError(f"{name} must be one of {', '.join(choices)}; got {value}")
        if least is not None:
            for number in value if isinstance(value, tuple) else (value,):
                if number is None and name in _OPTIONAL:
                    continue
                whole = isinstance(number, int) and not isinstance(number, bool)
                if not (whole or (name in _FRACTIONS and isinstance(number, float))):
                    kind = "a number" if name in _FRACTIONS else "a whole number"
                    raise InputError(f"{name} must be {kind}; got {number!r}")
                if not number >= least:
                    raise InputError(f"{name} must be at least {least}; got {number}")
                if whole and number > MOST and name != "seed":
                    raise InputError(f"{name} must be at most {MOST}; got {number}")

    @property
    def box_size(self) -> tuple[int, int]:
        """(h, w) of the occluding box, pixels."""
        return self.box if isinstance(self.box, tuple) else (self.box, self.box)

    @property
    def fill_name(self) -> str:
        """The fill in use: its name, or "tensor"."""
        if self.fill is None:
            return DEFAULT_FILL.get(self.method, "mean")
        return self.fill if isinstance(self.fill, str) else "tensor"

    @property
    def score_name(self) -> str:
        """The score in use."""
        return DEFAULT_SCORE.get(self.method, "prob") if self.score is None else self.score

    @property
    def step_count(self) -> int:
        """The steps in use; 0 for methods without any."""
        return DEFAULT_STEPS.get(self.method, 0) if self.steps is None else self.steps

    @property
    def has_tubes(self) -> bool:
        """Whether the method follows the motion; all others need no optical flow."""
        return self.method in AOSA_METHODS

    def as_dict(self) -> dict[str, Any]:
        """Every field in plain types, with the fill, the score and the steps in use."""
        plain = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        used = {"fill": self.fill_name, "score": self.score_name, "steps": self.step_count or None}
        return {**plain, **used, "box": list(self.box_size), "areas": list(self.areas)}


def read_box(text: str) -> int | tuple[int, int]:
    """The side of a box, or its height and width, pixels, as written: 16 or 16x24.

    Raises:
        InputError: neither.
    """
    found = re.fullmatch(r" *([0-9]{1,10}) *(?:[xX] *([0-9]{1,10}) *)?", text)
    if found is None:
        raise InputError(f"box must be a side or HEIGHTxWIDTH in pixels, such as 16 or 16x24; got {text}")
    return int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))


def read_areas(text: str, separator: str = ",") -> tuple[float, ...]:
    """The areas of STEP, as written: 0.05,0.1.

    Raises:
        InputError: something else than numbers.
    """
    try:
        return tuple(float(part) for part in text.split(separator))
    except ValueError:
        raise InputError(f"areas must be shares between 0 and 1, such as 0.05{separator}0.1; got {text}") from None
