"""Compiles every Triton kernel for three kinds of GPU without having one; run as a program, without TRITON_INTERPRET.

The launchers run on CPU tensors, and each launch is compiled with the very arguments, block shapes and warps that it
would have. Prints a row of JSON per kernel: what its machine code needs, by the assembler's own report.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

# The assembler of Triton 3.2 ends at 90.
ARCHITECTURES = (80, 90) if triton.__version__.startswith("3.2.") else (80, 90, 100)
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Target:
    """Stands for the driver: a GPU of an architecture, on which nothing is launched."""

    def __init__(self, architecture: int) -> None:
        self._target = GPUTarget("cuda", architecture, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return int(self._target.arch)

    def get_current_stream(self, device: int) -> int:
        return 0


def resources(cubin: bytes) -> dict[str, int]:
    """Registers, stack and local memory of a kernel, bytes but for REG."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}


def compiled(modules: list[str]) -> list[dict[str, Any]]:
    """Runs the LAUNCHES of the test modules for every architecture."""
    rows: list[dict[str, Any]] = []
    plain = JITFunction.run
    state = {"launch": "", "architecture": 0}
    seen = set()

    def run(self: JITFunction, *arguments: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        assert options.get("enable_fp_fusion") is False, f"{self.fn.__name__} must say enable_fp_fusion=False"
        kernel = plain(self, *arguments, grid=grid, warmup=True, **options)
        if kernel.hash not in seen:
            seen.add(kernel.hash)
            extra = {"kernel": self.fn.__name__, "warps": kernel.metadata.num_warps, "shared": kernel.metadata.shared}
            rows.append({**state, **extra, **resources(kernel.asm["cubin"])})
        return kernel

    JITFunction.run = run
    for state["architecture"] in ARCHITECTURES:
        driver.set_active(Target(state["architecture"]))
        for module in modules:
            for state["launch"], launch in importlib.import_module(module).LAUNCHES.items():
                launch()
    return rows


if __name__ == "__main__":
    for row in compiled(sys.argv[1:]):
        sys.stdout.write(json.dumps(row) + "\n")
