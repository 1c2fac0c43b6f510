"""Who may import whom: the floors of the package, lowest first. Records' import strings are not imports."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import aosa_fast
from aosa_fast import bench, kernels

ROOT = Path(aosa_fast.__file__).parent
# In a checkout, these two lie beside the package.
BESIDE = {"bench": Path(bench.__file__).parent, "kernels": Path(kernels.__file__).parent}
FLOORS = [
    {"version", "errors", "lazy", "processes", "_C"},
    {"addresses"},
    {"boundary", "registry", "progress"},
    {"files", "libraries"},
    {"journal"},
    {"video", "kernels"},
    {"methods.registry", "methods.option", "models.registry", "data.registry", "evaluation.metrics", "audit.measures"},
    {"config", "targets"},
    {"options"},
    {"inference"},
    {"models"},
    {"demo"},
    {"data"},
    {"methods"},
    {"provenance", "inputs", "display"},
    {"explanation"},
    {"pipeline", "output"},
    {"attribution", "warmup"},
    {"explainer", "doctor"},
    {"streams"},
    {"service"},
    {"metrics"},
    {"evaluation"},
    {"audit"},
    {"bench"},
    {"cli"},
]
HEIGHTS = {name: height for height, floor in enumerate(FLOORS) for name in floor}


def imports(path: Path) -> set[str]:
    """Our modules that a file imports, wherever it does: "methods.job" for aosa_fast.methods.job."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # What a package shows under other names, lazily, is for type checkers alone.
    for node in tree.body if path.name == "__init__.py" else ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if is_module(name) else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name.removeprefix("aosa_fast.") for name in found if name.startswith("aosa_fast.") and is_module(name)}


def is_module(name: str) -> bool:
    first, *rest = name.split(".")[1:]
    place = BESIDE.get(first, ROOT / first).joinpath(*rest)
    return place.is_dir() or place.with_name(f"{place.name}.py").is_file()


def height(module: str) -> int:
    return HEIGHTS.get(".".join(module.split(".")[:2]), HEIGHTS.get(module.split(".")[0], -1))


@cache
def modules() -> dict[str, set[str]]:
    folders = {"": ROOT, **BESIDE}
    paths = {
        path: ".".join((*([name] if name else []), *path.relative_to(folder).with_suffix("").parts))
        for name, folder in folders.items()
        for path in folder.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): imports(path) for path, name in paths.items() if name != "__init__"}


def test_no_module_imports_a_floor_above_its_own() -> None:
    found = modules()
    assert {module for module in found if height(module) < 0} == set()
    rising = {(module, other) for module, others in found.items() for other in others if height(other) > height(module)}
    assert rising == set()


def test_modules_import_each_other_in_no_circle() -> None:
    """Modules that import only what has gone already go, until none is left; in a circle, all would stay."""
    left = {module: others & modules().keys() for module, others in modules().items()}
    while gone := [module for module, others in left.items() if not others & (left.keys() - {module})]:
        for module in gone:
            del left[module]
    assert left == {}
