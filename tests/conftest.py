from __future__ import annotations

import os
from pathlib import Path

# Before any kernel is decorated: the tests run Triton's kernels in its interpreter, on CPU tensors.
os.environ["TRITON_INTERPRET"] = "1"

import pytest
import torch


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
