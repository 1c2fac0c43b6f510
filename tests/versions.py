"""Constraints for pip, one a line: `python tests/versions.py SET`, for `make test-versions`.

SET is `oldest` (every floor of pyproject.toml), `newest` (no constraint), or `torch-X.Y[.Z]`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def floors() -> list[str]:
    """NAME==VERSION for every NAME>=VERSION that pyproject.toml asks for."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for extra, wanted in project["optional-dependencies"].items() if extra != "check" for name in wanted]
    found = [re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", text) for text in [*project["dependencies"], *extras]]
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


# The interpreter of Triton 3.6, in which its kernels are tested, fails with NumPy 2.4.
BESIDE = {"torch-2.11.0": ["numpy<2.4"]}

if __name__ == "__main__":
    name = sys.argv[1]
    lines = floors() if name == "oldest" else [] if name == "newest" else [name.replace("torch-", "torch==")]
    lines += BESIDE.get(name, [])
    sys.stdout.write("".join(f"{line}\n" for line in lines))
