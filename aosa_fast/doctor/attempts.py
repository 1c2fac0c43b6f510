"""Calls and imports that are tried in another process: a library may end the process that imports it, or keep it."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from aosa_fast.errors import brief, describe_error
from aosa_fast.processes import search_path
from aosa_fast.registry import import_object

__all__ = ["Facts", "attempt"]

Facts = dict[str, Any]
_BEGIN = b'{"name": '  # of an answer
_CHILD = "from aosa_fast.doctor.attempts import answer; answer()"


def attempt(names: Sequence[str], seconds: float = 60) -> dict[str, Facts]:
    """Tries these, one after the other, in a process of their own; after one that ends it, the others in a new one.

    Args:
        names: "PACKAGE.MODULE:FUNCTION", which is called and gives plain types by name; or "MODULE", which is imported.
        seconds: how long a process may take; what has not answered by then has failed.

    Returns:
        For each name what the function gave; where it fails, why, as `error`, and the module that it `lacks`, if so.
    """
    found: dict[str, Facts] = {}
    while left := [name for name in names if name not in found]:
        answers, reason = _run(left, seconds)
        found |= answers
        if left[len(answers) :]:
            found[left[len(answers)]] = {"error": reason or "no answer", "lacks": None}
    return found


def _run(names: list[str], seconds: float) -> tuple[dict[str, Facts], str]:
    """The answers of one process, and why it ended early, if it did."""
    environment, reason = {**os.environ, "PYTHONPATH": search_path()}, ""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD, *names], capture_output=True, timeout=seconds, env=environment
        )
        out, code, said = done.stdout, done.returncode, done.stderr.decode(errors="replace").strip().splitlines()
        how = signal.Signals(-code).name if -code in {*signal.Signals} else f"exit code {code}"
        reason = f"it ends its process: {how}" + (f", {brief(said[-1])}" if said else "")
    except subprocess.TimeoutExpired as late:
        out, reason = late.stdout or b"", f"no answer within {seconds:g} s"
    except (OSError, ValueError, TypeError) as error:  # TypeError: an embedded Python knows no executable
        out, reason = b"", f"no process can be started: {describe_error(error)}"
    # A sitecustomize or a .pth file may have printed before our lines, and a process that ended in the middle of one.
    whole = [line for line in out.splitlines(keepends=True) if line.startswith(_BEGIN) and line.endswith(b"\n")]
    lines = [json.loads(line) for line in whole]
    return {line["name"]: line["found"] for line in lines}, reason


def answer() -> None:
    """The other process: writes a line of JSON for each of its arguments."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)  # libraries print
        warnings.simplefilter("ignore")
        for name in sys.argv[1:]:
            try:
                found = import_object(name)() if ":" in name else importlib.import_module(name) and {}
            except BaseException as error:  # noqa: BLE001 - whatever a library raises is what was found
                lacks = error.name if isinstance(error, ModuleNotFoundError) else None
                found = {"error": describe_error(error), "lacks": lacks}
            out.write("\n" + json.dumps({"name": name, "found": found}) + "\n")
            out.flush()
