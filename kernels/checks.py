"""Shape, dtype and device checks shared by the operators."""

from __future__ import annotations

import torch
from torch import Tensor

INT32 = 2**31 - 1  # the largest coordinate that boxes hold


def check_numbers(least: int, **arguments: int) -> None:
    """Raises ValueError naming the first number that is not from `least` to `INT32`."""
    for name, value in arguments.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}; got {value}")
        if value > INT32:
            raise ValueError(f"{name} must be at most {INT32}; got {value}")


def check_tensors(**arguments: object) -> None:
    """Raises TypeError naming the first argument that is not a tensor: torch's own error has many lines."""
    for name, argument in arguments.items():
        if not isinstance(argument, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor; got {type(argument).__name__}")


def check_shapes(**arguments: tuple[Tensor, str]) -> dict[str, int]:
    """Binds the letters of each argument's shape, and checks that a letter has one size everywhere.

    Args:
        arguments: name=(tensor, "B C T H W"); a number in the pattern must be met exactly, "1" included.

    Returns:
        The size of each letter.

    Raises:
        TypeError: an argument is not a tensor.
        ValueError: a rank or size does not fit; the message names the argument, the pattern and what was given.
    """
    sizes: dict[str, int] = {}
    for name, (tensor, pattern) in arguments.items():
        check_tensors(**{name: tensor})
        letters = pattern.split()
        shape = tuple(tensor.shape)
        fits = len(letters) == len(shape)
        for letter, size in zip(letters, shape, strict=False):
            fits = fits and size == (int(letter) if letter.isdigit() else sizes.setdefault(letter, size))
        if not fits:
            known = ", ".join(f"{letter}={sizes[letter]}" for letter in letters if letter in sizes)
            expected = f"({', '.join(letters)})" + (f" with {known}" if known and len(letters) == len(shape) else "")
            raise ValueError(f"{name} must have shape {expected}; got {shape}")
    return sizes


def check_dtype(dtype: torch.dtype, **arguments: Tensor) -> None:
    """Raises TypeError naming the first argument whose dtype is not `dtype`."""
    for name, tensor in arguments.items():
        if tensor.dtype != dtype:
            raise TypeError(f"{name} must be {dtype}; got {tensor.dtype}")


def check_device(**arguments: Tensor) -> None:
    """Raises ValueError if the arguments are not on one device."""
    devices = {name: str(tensor.device) for name, tensor in arguments.items()}
    if len(set(devices.values())) > 1:
        raise ValueError(f"arguments must be on one device; got {devices}")


def threads() -> int:
    """The number of threads that CPU operators may use: torch's own setting."""
    return torch.get_num_threads()
