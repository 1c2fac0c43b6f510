"""A function in a process of its own: `python -m aosa_fast.bench.fresh MODULE:FUNCTION JSON`; its last line is JSON.

Nothing is imported that is not needed, so that such a process holds what its function needs and no more.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from aosa_fast.progress import show_progress
from aosa_fast.registry import import_object


def command(place: str, **arguments: Any) -> list[str]:
    """The command line of a function of plain arguments and a plain result."""
    return [sys.executable, "-P", "-m", "aosa_fast.bench.fresh", place, json.dumps(arguments)]


def fresh(place: str, environment: dict[str, str] | None = None, **arguments: Any) -> Any:
    """What the function gives there, with these variables of the environment beside its own.

    Raises:
        CalledProcessError: it failed; what it said of it is on stderr.
    """
    words = command(place, **arguments)
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | (environment or {}))
    return answer(done.stdout)


def answer(said: str) -> Any:
    """What a function gave, from all that its process wrote."""
    return json.loads(said.splitlines()[-1])


if __name__ == "__main__":
    with show_progress(False, "bench"):  # a bar's time is not the work's
        print(json.dumps(import_object(sys.argv[1])(**json.loads(sys.argv[2]))))
