from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor


@pytest.fixture(autouse=True)
def kernels_stay_in_their_tensors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In Triton's interpreter, a test fails where a kernel reads or writes what is not one of its tensors."""
    if os.environ.get("TRITON_INTERPRET") != "1" or not request.module.__name__.endswith("_triton"):
        return
    from triton.runtime.interpreter import GridExecutor, InterpreterBuilder

    # Where the tensors of the launch under way begin and end, each in order: within one, more have begun than ended.
    begins, ends = np.zeros((2, 0), np.uint64)

    def launched(self: GridExecutor, *arguments: Any, plain: Any = GridExecutor._init_args_hst) -> Any:
        nonlocal begins, ends
        found = plain(self, *arguments)
        tensors = [a for a in (*found[0], *found[1].values()) if isinstance(a, Tensor) and a.numel()]
        begins = np.sort(np.array([a.data_ptr() for a in tensors], np.uint64))
        ends = np.sort(np.array([a.data_ptr() + a.nbytes for a in tensors], np.uint64))
        return found

    def watched(plain: Callable[..., Any], pointers: int, mask: int) -> Callable[..., Any]:
        def access(self: InterpreterBuilder, *arguments: Any) -> Any:
            places = arguments[pointers].data[arguments[mask].data]
            within = np.searchsorted(begins, places, "right") > np.searchsorted(ends, places, "right")
            assert within.all(), "a kernel leaves its tensors"
            return plain(self, *arguments)

        return access

    monkeypatch.setattr(GridExecutor, "_init_args_hst", launched)
    for name, pointers, mask in (
        ("create_masked_load", 0, 1),
        ("create_masked_store", 0, 2),
        ("create_atomic_rmw", 1, 3),
    ):
        monkeypatch.setattr(InterpreterBuilder, name, watched(getattr(InterpreterBuilder, name), pointers, mask))
