"""Read pickles of plain containers and NumPy arrays without running anything that they name."""

from __future__ import annotations

import io
import os
import pickle
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from aosa_fast.boundary import read_bytes, reading
from aosa_fast.errors import InputError

_RULE = "must be a pickle of plain containers and NumPy arrays of numbers"


def load_plain_pickle(path: str | os.PathLike[str]) -> Any:
    """Read a pickle, written by Python 2 or 3.

    Containers, strings and numbers need no global name. The names that NumPy's pickles use lead to stand-ins in this
    module, which check what they are given; not to NumPy, whose own functions trust it. Every other name is refused
    before it is imported.

    Raises:
        InputError: the file cannot be read, is damaged, or names something else.
    """
    with reading(path, f"{_RULE}, in one piece"):
        try:
            return _Unpickler(io.BytesIO(read_bytes(path)), encoding="latin1").load()
        except _RefusedError as error:
            raise InputError(f"{path}: {_RULE}; it names {error}") from None


class _RefusedError(Exception):
    """A global name that is not admitted."""


class _Type:
    """Stands in for numpy.dtype: one kind of number."""

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch("[biuf][1248]", code):
            raise ValueError(f"an array of {code!r}")
        self.code = code
        self.order = "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError(f"byte order {state[1]!r}")
        self.order = state[1]

    def read(self, data: str | bytes | bytearray, shape: tuple[int, ...], order: str) -> NDArray[Any]:
        # Never bytes(data): of a number, that makes so many zeros.
        raw = data.encode("latin1") if isinstance(data, str) else data
        kind: np.dtype[Any] = np.dtype(self.order + self.code)
        return np.frombuffer(raw, kind).reshape(shape, order="F" if order == "F" else "C")


class _Array(np.ndarray):
    """Stands in for numpy.ndarray while its state is still to come."""

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, fortran, data = state
        if not isinstance(kind, _Type):
            raise TypeError("an array without a type")
        values = kind.read(data, shape, "F" if fortran else "C")
        checked: Any = (1, values.shape, values.dtype, False, values.tobytes())
        super().__setstate__(checked)


def _sealed(call: Callable[..., Any]) -> Any:
    """A function as an object without attributes: a pickle may set attributes of what it has named."""
    return type(call.__name__, (), {"__slots__": (), "__call__": staticmethod(call)})()


@_sealed
def _reconstruct(*_: object) -> _Array:
    return _Array(0)


@_sealed
def _from_buffer(data: bytes, kind: _Type, shape: tuple[int, ...], order: str) -> NDArray[Any]:
    return _Type.read(kind, data, shape, order)


@_sealed
def _scalar(kind: _Type, data: str | bytes) -> Any:
    return _Type.read(kind, data, (1,), "C")[0]


@_sealed
def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"encoding {encoding!r}")
    return text.encode("latin1")


@_sealed
def _empty_bytes() -> bytes:
    return b""


@_sealed
def _array_type() -> None:
    raise TypeError("numpy.ndarray is an argument only")


_NAMES = {
    "numpy ndarray": _array_type,
    "numpy dtype": _Type,
    "_codecs encode": _encode,
    "numpy.core.multiarray _reconstruct": _reconstruct,
    "numpy.core.multiarray scalar": _scalar,
    "numpy.core.numeric _frombuffer": _from_buffer,
    "builtins set": set,
    "builtins frozenset": frozenset,
    "builtins bytes": _empty_bytes,
}
# What NumPy 2 calls numpy._core, and Python 2 __builtin__.
_RENAMED = (("", ""), ("numpy.core.", "numpy._core."), ("builtins ", "__builtin__ "))
_ADMITTED = {name.replace(*renamed): value for name, value in _NAMES.items() for renamed in _RENAMED}


# The one written in Python: five bytes can make the one written in C fill 32 GB with its table of seen objects.
class _Unpickler(pickle._Unpickler):
    def load_bytearray8(self: Any) -> None:
        # As pickle's own does not: read first, and make no room for what nine bytes announce.
        length = int.from_bytes(self.read(8), "little")
        content = self.read(length)
        if len(content) != length:
            raise EOFError(f"{len(content)} of {length} bytes")
        self.append(bytearray(content))

    dispatch: ClassVar[dict[int, Any]] = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: load_bytearray8}

    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return _ADMITTED[f"{module} {name}"]
        except KeyError:
            raise _RefusedError(f"{module}.{name}") from None
