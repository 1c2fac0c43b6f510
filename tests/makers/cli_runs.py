"""The command line as a user runs it: in this process, which has torch loaded already, or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from aosa_fast.cli.main import main


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


def aosa_process(*arguments: object, **environment: str) -> Done:
    """The command as a user runs it, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from aosa_fast.cli.main import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "120", "NO_COLOR": "1", **environment},
    )
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def aosa(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Done]]:
    """The command in this process, which has torch loaded already, and the user's modules no longer than a test."""
    before = {*sys.modules}

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["aosa-fast", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() sets its own
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = capsys.readouterr()
        return Done(int(stop.value.code or 0), out, err)

    yield run
    for name in {*sys.modules} - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path_factory.getbasetemp())):
            del sys.modules[name]


Run = Callable[..., Done]


def one_line_error(done: Done) -> str:
    assert done.returncode == 2, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]
