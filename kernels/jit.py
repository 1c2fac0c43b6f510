"""Compilers: Numba where it pays, so that a single clip waits for none; and where their code can be kept."""

from __future__ import annotations

import atexit
import importlib
import math
import os
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any

# Seconds of a process's work in NumPy, after which Numba is loaded. That takes 0.6 s with compiled code in its cache,
# and 3 to 5 s without, mostly under the interpreter's lock, which calls meanwhile feel; the fast code does in 0.6 ms
# what takes NumPy 2.2 ms (196 anchors, 16 frames), and in 4 ms what takes it 8 (784).
PATIENCE = 0.5
_MODULES = ("aosa_fast.kernels.tracking_numba", "aosa_fast.kernels.partners_numba")
_FORK = 10.0  # seconds that a fork waits for Numba

_spent = 0.0
_loader: threading.Thread | None = None
_loaded: dict[str, ModuleType] = {}
_failure = ""  # why Numba is not to be had, until it has been said
_starting = threading.Lock()
_told: set[str] = set()  # the compilers of which it was said


def preload() -> threading.Thread:
    """Loads Numba, and what it compiles, in a thread of its own, unless that was done before; NumPy works meanwhile.

    Returns:
        The thread: `join()` waits for Numba. It raises nothing; where Numba is not to be had, the next use warns.
    """
    global _spent, _loader
    with _starting:
        if _loader is None:
            _spent = math.inf
            # A daemon: the end of the program waits for nothing.
            _loader = threading.Thread(target=_load, name="aosa_fast: Numba", daemon=True)
            if hasattr(os, "register_at_fork"):
                # In the middle of an import, a child would wait for ever for the locks of a thread that it has not. The
                # hooks of these modules come in pairs: not one of them alone, while a fork waits.
                for name in ("logging", "concurrent.futures.thread"):
                    importlib.import_module(name)
                os.register_at_fork(before=_finish_loading)
            _loader.start()
    return _loader


def _finish_loading() -> None:
    if _loader is not None and _loader.is_alive() and _loader is not threading.current_thread():
        _loader.join(_FORK)


def _load() -> None:
    global _failure
    # With colorama, Numba sets sys.stdout and sys.stderr back for each of its own errors, thousands of times while it
    # compiles, whatever another thread has redirected them to meanwhile.
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    try:
        _loaded.update({name: importlib.import_module(name) for name in _MODULES})
    except Exception as error:  # noqa: BLE001 - Numba refuses some versions of NumPy, and a thread has nobody to tell
        _failure = str(error) or type(error).__name__


@contextmanager
def working() -> Iterator[None]:
    """Counts the seconds of what NumPy does in place of Numba."""
    global _spent
    start = time.perf_counter()
    yield
    _spent += time.perf_counter() - start


def compiled(module: str) -> ModuleType | None:
    """The module `module` of functions that Numba compiles, once they pay and are there; None while NumPy is to work.

    Both give the same bits. Nobody waits for Numba: the first call after those that used up `PATIENCE` has it loaded in
    another thread.
    """
    global _failure
    if _spent <= PATIENCE:
        return None
    preload()
    if _failure:
        reason, _failure = _failure, ""
        warnings.warn(f"Numba cannot be imported ({reason}): NumPy does its work, up to ten times slower", stacklevel=2)
    return _loaded.get(module)


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
