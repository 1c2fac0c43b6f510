"""Libraries that not everybody has: imported when they are needed, with what to install where they are missing."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from aosa_fast.errors import InputError

if TYPE_CHECKING:
    import cv2

__all__ = ["check_libraries", "check_opencv", "cv2", "is_installed", "opencv", "version_of"]

OPENCV = (
    "opencv-contrib-python", "opencv-contrib-python-headless", "opencv-python", "opencv-python-headless",
)  # fmt: skip
# All builds share one folder: the last one that was installed is what is imported, whatever pip takes to be there.
OPENCV_CURE = "pip install --force-reinstall --no-deps opencv-contrib-python-headless"


class _OpenCV:
    """Stands in for the module `cv2`, which needs libraries of the system's that slim images lack."""

    def __getattr__(self, name: str) -> Any:
        return getattr(check_opencv(), name)


if not TYPE_CHECKING:
    cv2 = _OpenCV()


@cache
def opencv() -> ModuleType | ImportError:
    """The module `cv2`, or why it cannot be imported, which it says the first time only."""
    try:
        module = importlib.import_module("cv2")
    except ImportError as error:
        return error
    # Where one of two builds was removed, the folder that they shared is an empty package.
    return module if hasattr(module, "__version__") else ImportError("a folder cv2 without OpenCV in it")


def check_opencv() -> ModuleType:
    """The module `cv2`.

    Raises:
        InputError: it cannot be imported.
    """
    module = opencv()
    if isinstance(module, ImportError):
        raise InputError(
            f"OpenCV must be importable for this; got {module}: {OPENCV_CURE}, or apt-get install libgl1 libglib2.0-0"
        )
    return module


def check_libraries(*names: str, extra: str, what: str = "") -> None:
    """Imports the libraries that something needs, the extra itself or `what`: a missing one is said before the work.

    Raises:
        InputError: one of these libraries cannot be imported.
    """
    if all(sys.modules.get(name) for name in names):  # nothing to silence, again and again in a loop over clips
        return
    # What libraries say as they are imported, such as that there is no folder for a cache, helps nobody here.
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in names:
                importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        gone = isinstance(error, ModuleNotFoundError)
        found = f"must have {missing}; it is missing" if gone else f"must have {name}; it cannot be imported ({error})"
        raise InputError(f'{what or extra} {found}: pip install "aosa-fast[{extra}]"') from None
    finally:
        logging.disable(logging.NOTSET)


def is_installed(library: str) -> bool:
    """Whether a library can be found; it is not imported."""
    try:
        return importlib.util.find_spec(library) is not None
    except ImportError:
        return False


@cache
def version_of(*distributions: str) -> str | None:
    """The version of the first of these distributions that is installed, found without importing it."""
    for name in distributions:
        with suppress(PackageNotFoundError):
            return version(name)
    return None
