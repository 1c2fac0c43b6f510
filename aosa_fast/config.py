"""Every choice of an explanation in one place; the command line is made from these fields."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from aosa_fast.errors import InputError
from aosa_fast.methods.option import Option
from aosa_fast.methods.registry import METHODS, Method, find_method
from aosa_fast.registry import nearest

if TYPE_CHECKING:  # at run time the command line reads this module, and answers before torch is loaded
    from torch import Tensor

# Each choice is written once, for type checkers, and its values are read from there.
Score = Literal["prob", "logit", "logprob", "margin", "sigmoid"]
Fill = Literal["mean", "black", "blur", "conditional"]
Aggregate = Literal["sum", "mean", "eq2"]
PartnersRule = Literal["cosine", "motion-aware"]
FlowMethod = Literal[
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
]
DType = Literal["float32", "tf32", "bfloat16"]
Backward = Literal["exact", "libra"]
RouteName = Literal["auto", "as-is", "onednn", "folded", "compiled", "graphed"]
Compat = Literal["authors2022"]
SCORES: tuple[str, ...] = get_args(Score)
AGGREGATES: tuple[str, ...] = get_args(Aggregate)
FLOWS: tuple[str, ...] = get_args(FlowMethod)
ROUTES: tuple[str, ...] = get_args(RouteName)
_NOUNS = {"prob": "probability", "logprob": "log-probability", "sigmoid": "probability"}  # others have their own name


def _choice(default: Any, help: str, kind: type = int, **rules: Any) -> Any:
    return field(default=default, metadata={"help": help, "kind": kind, **rules})


def _plain(value: Any) -> Any:
    """Numbers of NumPy as Python's own, which JSON knows."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


@dataclass(frozen=True, eq=False, init=False)
class Config:
    """How to explain a clip. Sizes are in pixels of the model's input, defaults are the paper's.

    The options of single methods, such as `areas` of "step", are given and read like all others; `aosa-fast explain
    --help` lists them, and the records of `aosa_fast.methods.registry` define them.

    Raises:
        InputError: a value out of its range or not among its choices; the message names the field.
        TypeError: an option that there is not.
    """

    method: str = _choice(
        "aosa-approx",
        "aosa-approx: one gradient, first order. aosa: one forward per tube, exact. aosa-path: the mean gradient on "
        "the way to the fill, for scores that saturate. All others are there to compare with; random, centre, "
        "motion and motion-tubes know nothing of the model. aosa-fast list methods says more.",
        str,
    )
    stride: int = _choice(8, "Distance of the anchors in the first frame, pixels.", least=1)
    box: int | tuple[int, int] = _choice(16, "Side of the occluding box (or height and width), pixels.", least=1)
    partners: int | None = _choice(
        None,
        "How many tubes of like motion are joined to each tube; 0: single tubes. Default: 3, and 0 for aosa-dual.",
        least=0,
        open=True,
    )
    partners_rule: str = _choice(
        "cosine",
        "cosine: the paper's co-occurrence. motion-aware: anchors that stay within --min-motion choose by nearness.",
        str,
        choices=get_args(PartnersRule),
    )
    min_motion: float = _choice(
        2.0, "For motion-aware partners: the reach that counts as motion, pixels.", float, least=0
    )
    fill: str | Tensor | None = _choice(
        None,
        "What hides a tube: mean (0 in model space), black, blur, or conditional (mean of the neighbourhood). "
        "Default: mean for aosa and aosa-path, conditional for aosa-approx.",
        str,
        choices=get_args(Fill),
        open=True,
    )
    radius: int = _choice(4, "Radius of the conditional mean, pixels.", least=0)
    score: str | None = _choice(
        None,
        "What the map measures: prob (softmax), logit (what the model returns, as it is), logprob, margin (logit over "
        "the best other), or sigmoid (each class on its own, multi-label). Default: logit for grad-cam and legrad, "
        "prob for all others.",
        str,
        choices=SCORES,
        open=True,
    )
    aggregate: str = _choice(
        "sum",
        "How tubes make the map: sum over N, mean over the tubes that cover a voxel, or eq2 (the paper's Eq. 2).",
        str,
        choices=AGGREGATES,
    )
    flow: str = _choice(
        "farneback",
        "Optical flow method: farneback is this package's own, also on a GPU; all others are OpenCV's, and tvl1 to "
        "rlof need opencv-contrib.",
        str,
        choices=FLOWS,
    )
    reseed: int = _choice(0, "Start a new grid of anchors every so many frames; 0: in the first only.", least=0)
    steps: int | None = _choice(
        None,
        "Points on the way to the fill (aosa-path: 8) or to 0 (integrated-gradients: 50) or to other "
        "clips (expected-gradients: 50), or iterations (step: 2000).",
        least=1,
        open=True,
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
        str,
        choices=get_args(DType),
        open=True,
    )
    backward: str = _choice(
        "exact",
        "How the methods that take the score's gradient by the input go back through the model: exact, or libra, which "
        "takes the scales of normalisation layers (LayerNorm, RMSNorm) as constant; models without such get the same.",
        str,
        choices=get_args(Backward),
    )
    route: str = _choice(
        "auto",
        "How the model is run; answers differ by rounding. as-is: as it is. onednn: 3-D convolutions of float32 clips "
        "on a CPU through oneDNN, whatever the batch, channels last. folded: likewise, by a copy with its batch norms "
        "folded into its convolutions. compiled: by torch.compile. graphed: by CUDA graphs. auto: onednn for "
        "methods that call the model many times, where it can be, else as-is; aosa_fast.Explainer measures.",
        str,
        choices=ROUTES,
    )
    check: int = _choice(0, "Hold this many tubes against their exact scores (aosa-approx, aosa-path).", least=0)
    seed: int = _choice(
        0,
        "Seed of the random fills, of smoothgrad's noise, of expected-gradients' samples, and of the random map.",
        least=0,
    )
    compat: str | None = _choice(
        None,
        "authors2022: the authors' published code, with its rounding, partners and weights.",
        str,
        choices=get_args(Compat),
        open=True,
    )
    options: dict[str, Any] = field(default_factory=dict, metadata={"own": True})

    def __init__(self, *, options: dict[str, Any] | None = None, **choices: Any) -> None:
        # Not dataclass's own: the options depend on the method, and `dataclasses.replace` calls this with all fields.
        record = find_method(choices.get("method", "aosa-approx"))
        known = own_options(record)
        given = {name: value for name, value in (options or {}).items() if name in known} | choices
        if unknown := given.keys() - known.keys() - COMMON.keys():
            hint = nearest(min(unknown), [*COMMON, *own_options()])
            raise TypeError(f"Config.__init__() got an unexpected keyword argument {min(unknown)!r}{hint}")
        own = {}
        for name, option in {**COMMON, **known}.items():
            value = given.get(name, option.default)
            value = tuple(value) if name == "box" and isinstance(value, list) else value
            value = _plain(value) if option.least is not None else value
            if not (name == "fill" and hasattr(value, "expand_as")):
                option.check(value)
            if name in known:
                own[name] = value
            else:
                object.__setattr__(self, name, value)
        object.__setattr__(self, "options", own)
        self._check(record)

    def _check(self, record: Method) -> None:
        """Raises InputError where choices do not go together."""
        if isinstance(self.box, tuple) and len(self.box) != 2:
            raise InputError(f"box must be one side, or height and width; got {self.box}")
        if self.samples and (self.method != "aosa" or self.fill != "conditional"):
            raise InputError(
                f"samples must be 0 unless method is aosa and fill conditional; got samples={self.samples}, "
                f"method={self.method}, fill={self.fill}"
            )
        if self.budget_ms is not None and (self.method != "aosa" or self.samples or self.compat):
            raise InputError(
                f"budget_ms must come with method=aosa, and without samples and compat; got method={self.method}, "
                f"samples={self.samples}, compat={self.compat}"
            )
        if self.compat and (self.reseed or self.partners_rule != "cosine" or self.aggregate != "sum"):
            raise InputError("compat must come with reseed, partners_rule and aggregate as they are by default")
        if self.compat and self.backward != "exact":
            raise InputError(f"compat must come with backward=exact; got {self.backward}")
        if self.compat and self.route not in ("auto", "as-is"):
            raise InputError(f"compat must come with route=as-is, bit for bit; got {self.route}")
        if self.route in ("folded", "compiled", "graphed") and (record.looks_inside or self.backward != "exact"):
            what = f"method {self.method}" if record.looks_inside else f"backward={self.backward}"
            raise InputError(f"route must be auto, as-is or onednn for {what}, which looks into the network; "
                             f"got {self.route}")  # fmt: skip
        if self.compat and not record.has_compat:
            raise InputError(
                f"compat must be unset for method {self.method}: the authors' code has only aosa and aosa-approx"
            )

    def __getattr__(self, name: str) -> Any:
        options = self.__dict__.get("options", {})
        if name not in options:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return options[name]

    @property
    def record(self) -> Method:
        """What is known of the method."""
        return find_method(self.method)

    @property
    def box_size(self) -> tuple[int, int]:
        """(h, w) of the occluding box, pixels."""
        return self.box if isinstance(self.box, tuple) else (self.box, self.box)

    @property
    def fill_name(self) -> str:
        """The fill in use: its name, or "tensor"."""
        if self.fill is None:
            return self.record.fill
        return self.fill if isinstance(self.fill, str) else "tensor"

    @property
    def score_name(self) -> str:
        """The score in use."""
        return self.record.score if self.score is None else self.score

    @property
    def partner_count(self) -> int:
        """The partners in use."""
        return self.record.partners if self.partners is None else self.partners

    @property
    def step_count(self) -> int:
        """The steps in use; 0 for methods without any."""
        return self.record.steps if self.steps is None else self.steps

    @property
    def unit(self) -> str:
        """The unit of the maps, in a few words: the drop of the score for all methods that occlude."""
        unit = self.record.unit
        text = unit if isinstance(unit, str) else unit(self)
        if self.aggregate == "eq2" and self.record.occluders and self.record.knows_model:
            text = "{noun} where tubes are hidden elsewhere"
        return text.format(noun=_NOUNS.get(self.score_name, self.score_name))

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Config:
        """What `as_dict` gave, also by way of JSON, which has lists for tuples."""
        tuples: dict[str, Any] = {name: tuple(value) for name, value in plain.items() if isinstance(value, list)}
        return cls(**(plain | tuples))

    def as_dict(self) -> dict[str, Any]:
        """Every choice in plain types, with the fill, the score and the steps in use."""
        plain = {name: getattr(self, name) for name in COMMON} | self.options
        used: dict[str, Any] = {"fill": self.fill_name, "score": self.score_name, "steps": self.step_count or None}
        used["partners"] = self.partner_count
        plain |= {**used, "box": list(self.box_size)}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


COMMON = {
    item.name: Option(item.name, item.default, **item.metadata)
    for item in dataclasses.fields(Config)
    if item.name != "options"
}


def own_options(*others: Method) -> dict[str, Option]:
    """The options of our methods, and of `others`, by name."""
    return {option.name: option for method in (*METHODS.own(), *others) for option in method.options}


def read_choice(choice: Option, text: Any, separator: str = ",") -> Any:
    """The value of a choice as it is written on a command line: box 16 or 16x24, numbers with `separator` between.

    Raises:
        InputError: it cannot be read.
    """
    if not isinstance(text, str):
        return text
    if choice.name == "box":
        return read_box(text)
    try:
        if choice.several:
            return tuple(choice.kind(part) for part in text.split(separator))
        return choice.kind(text)
    except ValueError:
        rule = f"{choice.share}, such as 0.05{separator}0.1" if choice.several else "must be a number"
        raise InputError(f"{choice.name} {rule}; got {text}") from None


def read_box(text: str) -> int | tuple[int, int]:
    """The side of a box, or its height and width, pixels, as written: 16 or 16x24.

    Raises:
        InputError: neither.
    """
    found = re.fullmatch(r" *([0-9]{1,10}) *(?:[xX] *([0-9]{1,10}) *)?", text)
    if found is None:
        raise InputError(f"box must be a side or HEIGHTxWIDTH in pixels, such as 16 or 16x24; got {text}")
    return int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))
