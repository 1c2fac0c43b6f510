"""Forward hooks that are gone when their block ends, and layers by name."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from aosa_fast.errors import InputError


@contextmanager
def forward_hooks(hooks: Sequence[tuple[nn.Module, Callable[[Any, Any], Any]]]) -> Iterator[None]:
    """Calls functions with what modules take and give, in this thread and block only, also after an exception.

    Args:
        hooks: (module, function). The function takes the module's positional inputs, and its output; if it returns
            something, then that is what the network goes on with.
    """
    thread = threading.get_ident()
    handles = []
    try:
        for module, function in hooks:

            def hook(_: nn.Module, inputs: Any, output: Any, function: Callable[[Any, Any], Any] = function) -> Any:
                # Another thread may explain the same model at the same time.
                return function(inputs, output) if threading.get_ident() == thread else None

            handles.append(module.register_forward_hook(hook))
        yield
    finally:
        for handle in handles:
            handle.remove()


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """A module by its dotted name.

    Raises:
        InputError: no such module; the message names some that there are.
    """
    modules = {known: module for known, module in network.named_modules() if known}
    if name not in modules:
        alike = difflib.get_close_matches(name, modules, 3, cutoff=0.4)
        choices = alike or [known for known, _ in network.named_children()][:6]
        raise InputError(
            f"layer must be a module of {type(network).__name__}, such as {', '.join(choices) or '(none)'}; got {name}"
        )
    if isinstance(modules[name], torch.jit.ScriptModule):
        raise InputError(
            f"layer must be one of a Python module, as TorchScript doesn't show what its layers give; got {name}"
        )
    return modules[name]
