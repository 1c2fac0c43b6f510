"""Compilers: Numba where it pays, so that a single clip waits for none; and where their code can be kept."""

from __future__ import annotations

import atexit
import importlib
import math
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

# Seconds of a process's work in NumPy, by which Numba is loaded. That takes 0.7 s with compiled code in its cache, and
# 4 to 5 s without; the fast code then does in 0.6 ms what takes NumPy 2.5 ms (196 anchors, 16 frames), and in 2.8 ms
# what takes it 22 (784): a few clips of that size are explained before Numba comes.
PATIENCE = 0.1

_spent = 0.0
_told: set[str] = set()  # the compilers of which it was said


def compiled(module: str, seconds: float) -> ModuleType | None:
    """The module `module` of functions that Numba compiles, once they pay; None while NumPy is the better choice.

    Both give the same bits.

    Args:
        module: its name.
        seconds: that NumPy would take for what is asked for, roughly.
    """
    global _spent
    _spent += seconds
    if _spent <= PATIENCE:
        return None
    try:
        return importlib.import_module(module)
    except ImportError as error:  # of Numba, which refuses versions of NumPy that are newer than itself
        _spent = -math.inf
        warnings.warn(f"Numba cannot be imported ({error}): NumPy does its work, up to ten times slower", stacklevel=2)
        return None


def jit(signature: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a function that Numba compiles at once, for one signature, and keeps on the disk where it can.

    Whatever is wrong with the place for that (none can be written, the disk is full, a file is damaged or another
    user's), the function is compiled for this process alone, with a warning.
    """
    import numba

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(signature, cache=True, nogil=True)(function)
        except Exception as error:  # noqa: BLE001 - the cache's files and folders fail in ways without a common type
            _tell("Numba", " ".join(str(error).split()) or type(error).__name__)
            return numba.njit(signature, nogil=True)(function)

    return decorate


@cache
def place_triton_cache() -> None:
    """Lets Triton keep its compiled code in a folder that ends with the process, where its own cannot be written."""
    home = os.environ.get("TRITON_HOME") or os.path.expanduser("~")
    folder = os.environ.get("TRITON_CACHE_DIR") or os.path.join(home, ".triton", "cache")
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        _tell("Triton", str(error))
        os.environ["TRITON_CACHE_DIR"] = tempfile.mkdtemp(prefix="triton-")
        atexit.register(shutil.rmtree, os.environ["TRITON_CACHE_DIR"], ignore_errors=True)


def _tell(compiler: str, reason: str) -> None:
    if compiler not in _told:
        _told.add(compiler)
        warnings.warn(
            f"{compiler} keeps no compiled code ({reason}): every process compiles for some seconds; "
            f"{compiler.upper()}_CACHE_DIR may name a folder that can be written",
            stacklevel=4,
        )
