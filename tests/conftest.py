from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cli_runs import aosa  # noqa: F401 - the fixture, for all tests


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        choices=["cpu", "cuda"],
        default="cpu",
        help="cuda: the Triton twins are compiled, and run on a GPU.",
    )


def pytest_configure(config: pytest.Config) -> None:
    # Before any kernel is decorated.
    if config.getoption("--device") == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    elif not torch.cuda.is_available():
        raise pytest.UsageError("--device cuda must have a GPU that torch can use; it finds none")


@pytest.fixture(autouse=True)
def twins_on_the_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --device cuda, what a test calls of a Triton twin runs on copies of its tensors on the GPU."""
    if request.config.getoption("--device") == "cpu":
        return
    for name, module in [*sys.modules.items()]:
        if name.startswith("aosa_fast.kernels.") and name.endswith("_triton"):
            for twin, function in inspect.getmembers(module, inspect.isfunction):
                if function.__module__ == name and not twin.startswith("_"):
                    monkeypatch.setattr(module, twin, on_device(function, "cuda"))


def on_device(function: Callable[..., Any], device: str) -> Callable[..., Any]:
    """`function` on copies of its tensors on a device; what it writes into them is copied back, as are its results."""

    def run(*arguments: Any, **options: Any) -> Any:
        if not any(isinstance(value, Tensor) and value.device.type != device for value in arguments):
            return function(*arguments, **options)  # a twin that another one calls
        there = [value.to(device) if isinstance(value, Tensor) else value for value in arguments]
        found = function(*there, **options)
        for own, moved in zip(arguments, there, strict=True):
            if isinstance(own, Tensor) and 0 not in own.stride():  # what was expanded is never written to
                own.copy_(moved)
        several = isinstance(found, tuple)
        back = [value.cpu() if isinstance(value, Tensor) else value for value in (found if several else (found,))]
        return tuple(back) if several else back[0]

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real clips; they are no part of the project, so tests that use them skip where it is missing."""
    folder = Path(os.environ.get("AOSA_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        if os.environ.get("AOSA_REQUIRE_DATA"):
            pytest.fail("AOSA_REQUIRE_DATA is set, but the folder of real clips is missing")
        pytest.skip("needs the folder of real clips")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from more, and on a busy machine OpenMP's threads wait for each other."""
    torch.set_num_threads(1)
