"""Registers operators with torch.library, so that devices dispatch the standard way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

Function = Callable[..., Any]


def operator(name: str, *, fake: Function, mutates: Iterable[str] = ()) -> Callable[[Function], Any]:
    """Decorates the CPU implementation of `aosa_fast::name`; the schema is read off its annotations.

    `torch.library.custom_op` would do the same, but its wrapper imports torch._dynamo at the first call, which takes
    2 to 3 seconds of every process.

    Args:
        name: of the operator.
        fake: the same arguments, on tensors without data; gives shapes and dtypes.
        mutates: names of the arguments that are written to.

    Returns:
        A decorator that gives back the callable operator, `torch.ops.aosa_fast.name`.
    """

    def register(function: Function) -> Any:
        qualified = f"aosa_fast::{name}"
        torch.library.define(qualified, torch.library.infer_schema(function, mutates_args=tuple(mutates)))
        torch.library.impl(qualified, "cpu", function)
        torch.library.register_fake(qualified, fake)
        return getattr(torch.ops.aosa_fast, name)

    return register
