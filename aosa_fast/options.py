"""The fields of `Config` as keyword arguments, for editors and type checkers; and what `help` says of them.

`Config` itself, and the records of the methods, define them: a test holds the two together.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from aosa_fast.config import (
    COMMON,
    Aggregate,
    Backward,
    Compat,
    DType,
    Fill,
    FlowMethod,
    PartnersRule,
    RouteName,
    Score,
    own_options,
)  # fmt: skip
from aosa_fast.methods.option import Option
from aosa_fast.methods.registry import METHODS

if TYPE_CHECKING:
    from torch import Tensor


class Options(TypedDict, total=False):
    """All fields of `Config` but `flow`, which `explain` takes in more forms; `help(aosa_fast.explain)` explains them.

    Methods of other packages may have options of their own: give those by `config=Config(...)`.
    """

    method: str
    stride: int
    box: int | tuple[int, int]
    partners: int | None
    partners_rule: PartnersRule
    min_motion: float
    fill: Fill | Tensor | None
    radius: int
    score: Score | None
    aggregate: Aggregate
    reseed: int
    steps: int | None
    batch_size: int
    dtype: DType | None
    backward: Backward
    route: RouteName
    check: int
    seed: int
    compat: Compat | None
    relu: Literal["element", "channel", "none", "eq8-literal"]
    samples: int
    budget_ms: float | None
    detail: Literal["auto", "voxel", "both", "tube"]
    layer: str | None
    cam_weights: Literal["frame", "global"]
    cuboid_area: float
    cuboid_frames: int
    cuboid_step: int
    noise_samples: int
    noise: float
    areas: tuple[float, ...]


class Choices(Options, total=False):
    """All fields of `Config`."""

    flow: FlowMethod


Function = TypeVar("Function", bound=Callable[..., Any])


def with_options(function: Function) -> Function:
    """Adds all options to the docstring of a function, as `Config` has them: with their units and defaults."""
    if function.__doc__:  # there is none with python -OO
        function.__doc__ = f"{function.__doc__.rstrip()}\n\n    Options:\n{_listed()}\n"
    return function


def described_options() -> list[tuple[str, str, str]]:
    """Name, default and meaning of every option of ours but `flow`, as they are written in Python."""
    options = [option for option in (COMMON | own_options()).values() if option.name != "flow"]
    return [(option.name, repr(option.default), _meaning(option)) for option in options]


def _listed() -> str:
    return "\n".join(
        textwrap.fill(
            f"{name}={default}: {meaning}",
            116,
            initial_indent=" " * 8,
            subsequent_indent=" " * 12,
            break_on_hyphens=False,
        )
        for name, default, meaning in described_options()
    )


def _meaning(option: Option) -> str:
    choices = ", ".join(
        option.choices or ([method.name for method in METHODS.own()] if option.name == "method" else ())
    )
    help = re.sub(r"--([a-z-]+)", lambda match: match[1].replace("-", "_"), option.help)
    return help + (f" One of {choices}." if choices else "")
