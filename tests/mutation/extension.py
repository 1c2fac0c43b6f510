"""Builds the C++ extension anew with one file changed: only what includes that file is compiled."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
CLEAN = ROOT / "build" / "mutation"
# As setup.py has them, but for the optimisation. Torch brings pybind11.
FLAGS = ["-O1", "-std=c++17", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fvisibility=hidden", "-pthread", "-w"]
INCLUDE = (sysconfig.get_paths()["include"], Path(torch.__file__).parent / "include")
COMPILE = ["g++", "-c", *FLAGS, *(f"-I{folder}" for folder in INCLUDE)]


def compile_clean() -> None:
    """Compiles all sources that have changed, by themselves or in what they include, since the last time."""
    CLEAN.mkdir(parents=True, exist_ok=True)
    for source in sorted((ROOT / "csrc").glob("*.cpp")):
        made = CLEAN / f"{source.stem}.o"
        if not made.exists() or any(made.stat().st_mtime < part.stat().st_mtime for part in _parts(source)):
            subprocess.run([*COMPILE, source, "-o", made], check=True)


def build(path: str, text: str, folder: Path, extension: Path) -> str:
    """Makes the extension with this text of csrc/FILE; "invalid" where it does not compile, "same" code, or "built"."""
    shutil.copytree(ROOT / "csrc", folder, dirs_exist_ok=True)
    (folder / Path(path).name).write_text(text, encoding="utf-8")
    objects, same = [], True
    for source in sorted((ROOT / "csrc").glob("*.cpp")):
        objects.append(CLEAN / f"{source.stem}.o")
        if ROOT / path in _parts(source):
            made = folder / f"{source.stem}.o"
            if subprocess.run([*COMPILE, folder / source.name, "-o", made], stderr=subprocess.DEVNULL).returncode:
                return "invalid"
            same = same and made.read_bytes() == objects[-1].read_bytes()
            objects[-1] = made
    if same:
        return "same"
    linked = subprocess.run(["g++", "-shared", "-pthread", *objects, "-o", extension], stderr=subprocess.DEVNULL)
    return "invalid" if linked.returncode else "built"


def _parts(source: Path) -> set[Path]:
    """A source with all headers of ours that it includes."""
    found, left = set(), [source]
    while left:
        found.add(part := left.pop())
        names = [
            line.split('"')[1]
            for line in part.read_text(encoding="utf-8").splitlines()
            if line.startswith('#include "')
        ]
        left += {source.parent / name for name in names} - found
    return found
