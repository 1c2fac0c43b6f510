"""Every public name has a property, or a reason why it needs none."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import aosa_fast
from aosa_fast.kernels import reference

PACKAGES = ("audit", "data", "evaluation", "metrics", "models", "video")
# The operators, by the names that they have everywhere.
OPERATORS = (
    "conditional_mean", "field", "field_scores", "tube_scores", "saliency_map", "tube_overlaps", "occlude",
    "occlude_sampled", "normalize_frames", "grey_frames", "track_anchors", "rasterize_boxes", "select_partners",
    "farneback",
)  # fmt: skip


def public_names() -> set[str]:
    packages = [importlib.import_module(f"aosa_fast.{package}") for package in PACKAGES]
    names = {name for module in (aosa_fast, *packages) for name in module.__all__} | set(OPERATORS)
    return names - {*PACKAGES, "__version__"}


def drawn_names() -> set[str]:
    """What the bodies of the property tests name, and what they look up at the top of their files."""
    found: set[str] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        if path != Path(__file__):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            used = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
            for node in (inner for statement in used for inner in ast.walk(statement)):
                found |= {node.attr} if isinstance(node, ast.Attribute) else set()
                found |= {node.id} if isinstance(node, ast.Name) else set()
    return found


def test_every_public_name_has_a_property() -> None:
    assert sorted(public_names() - drawn_names()) == []


def test_every_operator_has_its_reference() -> None:
    registered = Path(reference.__file__).parent.glob("*.py")
    names = {name for path in registered for name in re.findall(r'@operator\(\s*"(\w+)"', path.read_text("utf-8"))}
    assert sorted(names) == sorted(OPERATORS)
    assert all(hasattr(reference, name) for name in OPERATORS)
