"""Every example of README.md and docs/ runs as it stands, in the order of its page, or says there why it does not."""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Document, Example, Region
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import FencedCodeBlockLexer, RawFencedCodeBlockLexer

from aosa_fast.demo import demo_clip_path
from cli_runs import Run

ROOT = Path(__file__).parents[2]
PAGES = {str(path.relative_to(ROOT)): path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]}
MARK = re.compile(r"<!-- not run: ([^\n]+) -->\s*\Z")
COMMAND = re.compile(r"^(aosa-fast|pip|make|curl|python|g\+\+|import|from) ", re.MULTILINE)

# How many examples of a page do not run, and why.
NOT_RUN = {
    "README.md": {
        "sets everything up": 1,
        "weights that are not here": 1,
        "minutes, and other data": 1,
        "a server": 1,
        "other data": 1,
    },
    "docs/audit.md": {"other data": 2, "verdicts of a person": 1},
    "docs/evaluation.md": {"an hour": 1, "hours": 1},
    "docs/examples/README.md": {"a server": 3},
    "docs/exports.md": {"needs an audit": 1},
    "docs/fast.md": {"minutes": 1},
    "docs/gpu.md": {"a GPU": 2},
    "docs/index.md": {"installs packages": 1},
    "docs/models.md": {"weights that are not here": 1},
    "docs/service.md": {"a server": 3},
    "docs/streams.md": {"cameras and servers": 1},
    "docs/trust.md": {"hours": 1},
    "docs/tutorials/audit.md": {"ids of your own clips": 1, "other data": 1},
    "docs/tutorials/evaluate.md": {"other data": 1},
    "docs/tutorials/explain.md": {"weights that are not here": 1},
    "docs/tutorials/live.md": {"a server": 1, "cameras and servers": 1},
}


def blocks(document: Document) -> Iterator[tuple[Region, str | None]]:
    """The examples in Python and of commands, each with the reason for which it does not run."""
    for region in FencedCodeBlockLexer("python|bash")(document):
        mark = MARK.search(document.text, 0, region.start)
        yield region, mark and mark[1]


def parse(path: Path, aosa: Run) -> Document:
    """A page with those of its examples that run; commands are those of aosa-fast, in the folder where one is."""

    def run_commands(example: Example) -> str | None:
        for line in example.parsed.replace("\\\n", " ").splitlines():
            name, *arguments = shlex.split(line, comments=True) or [""]
            if name and name != "aosa-fast":
                return f"only aosa-fast can be run; mark this: {line}"
            if name and (done := aosa(*arguments)).returncode:
                return f"{line}: {done.stderr}"
        return None

    def examples(document: Document) -> Iterator[Region]:
        for region, reason in blocks(document):
            if reason is None:
                region.parsed = region.lexemes["source"]
                region.evaluator = PythonEvaluator() if region.lexemes["language"] == "python" else run_commands
                yield region

    return Document.parse(str(path), examples)


@pytest.mark.parametrize("page", [name for name, path in PAGES.items() if "```" in path.read_text(encoding="utf-8")])
def test_examples_run(page: str, aosa: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shutil.copy(demo_clip_path(), tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # modules that an example writes
    monkeypatch.setenv("MPLBACKEND", "agg")
    for example in parse(PAGES[page], aosa):
        example.evaluate()


def test_what_does_not_run_is_counted_here():
    counted = {}
    for name, path in PAGES.items():
        document = Document(path.read_text(encoding="utf-8"), name)
        reasons = Counter(reason for _, reason in blocks(document) if reason)
        if reasons:
            counted[name] = dict(reasons)
    assert counted == NOT_RUN


def test_examples_name_their_language():
    for name, path in PAGES.items():
        for region in RawFencedCodeBlockLexer()(Document(path.read_text(encoding="utf-8"), str(path))):
            assert not COMMAND.search(region.lexemes["source"]), name
