"""Registers operators with torch.library, so that devices dispatch the standard way."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from aosa_fast.kernels.jit import place_triton_cache

Function = Callable[..., Any]


def operator(name: str, *, check: Function, fake: Function, mutates: Iterable[str] = ()) -> Callable[[Function], Any]:
    """Decorates the CPU implementation of `aosa_fast::name`; the schema is read off its annotations.

    The CUDA implementation is the function `name` of the decorated function's module with the suffix `_triton`; that
    module is imported at the first CUDA tensor, so that nobody else waits for Triton.

    `torch.library.custom_op` would do the same, but its wrapper imports torch._dynamo at the first call, which takes
    2 to 3 seconds of every process.

    Args:
        name: of the operator.
        check: the same arguments; raises TypeError or ValueError where shapes, dtypes, devices or numbers are not as
            they must be. Called before any implementation, so that whoever calls the operator by its registered name
            cannot make it read or write beyond its arguments. What a tensor holds, the implementations check.
        fake: the same arguments, on tensors without data; gives shapes and dtypes.
        mutates: names of the arguments that are written to.

    Returns:
        A decorator that gives back the callable operator, `torch.ops.aosa_fast.name`.
    """

    def register(function: Function) -> Any:
        qualified = f"aosa_fast::{name}"
        torch.library.define(qualified, torch.library.infer_schema(function, mutates_args=tuple(mutates)))
        torch.library.impl(qualified, "cpu", _checked(check, function))
        torch.library.impl(qualified, "cuda", _checked(check, on_cuda(name, f"{function.__module__}_triton")))
        torch.library.register_fake(qualified, _checked(check, fake))
        return getattr(torch.ops.aosa_fast, name)

    return register


def _checked(check: Function, function: Function) -> Function:
    def run(*arguments: Any) -> Any:
        check(*arguments)
        return function(*arguments)

    return run


def on_cuda(name: str, module: str) -> Function:
    """The CUDA implementation `name` in `module`, looked up when it is first called.

    Returns:
        The function; it raises RuntimeError where Triton is missing, and launches on the first tensor's device.
    """

    def run(*arguments: Any) -> Any:
        try:
            importlib.import_module("triton")
        except ImportError as error:
            raise RuntimeError(
                f"CUDA tensors must come with Triton, which has Linux builds only: pip install triton; got {error}"
            ) from None
        place_triton_cache()
        implementation = getattr(importlib.import_module(module), name)
        device = next(argument.device for argument in arguments if isinstance(argument, Tensor))
        with torch.cuda.device(device):
            return implementation(*arguments)

    return run
