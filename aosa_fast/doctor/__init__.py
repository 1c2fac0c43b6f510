"""What is installed, what is fast here, what is missing and how to get it: `aosa-fast doctor`, as plain data.

Only the standard library is loaded into this process, so that whatever is wrong with NumPy, torch or the extension can
be said. `python -m aosa_fast.doctor` writes what `aosa-fast doctor --json` does, also where this cannot start.
"""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from aosa_fast.doctor import installed
from aosa_fast.doctor.attempts import Facts, attempt
from aosa_fast.errors import describe_error
from aosa_fast.processes import cores
from aosa_fast.version import __version__

__all__ = ["Check", "State", "examine", "is_healthy", "processors", "report"]

State = Literal["ok", "slow", "missing", "broken"]
_REINSTALL = "pip install --force-reinstall --no-deps"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of a library, a path or an extra; it stays the same.
        group: "libraries", "paths" or "extras".
        state: "ok"; "slow": it works, but could be faster; "missing": optional, and not there; "broken".
        text: a sentence.
        command: what is to be run, where something is to be done.
        tried: whether it was imported or run here; else it was only found.
        needed: whether `explain` needs it.
        facts: versions, times and the like, in plain types.
    """

    name: str
    group: str
    state: State
    text: str
    command: str = ""
    tried: bool = False
    needed: bool = False
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True)
class _Path:
    """A function of `aosa_fast.doctor.trials`, and what is said where it fails."""

    name: str
    state: State
    text: str
    command: str = ""
    needed: bool = False

    @property
    def trial(self) -> str:
        return f"aosa_fast.doctor.trials:{self.name.replace('-', '_')}"


_SLOWER = "NumPy does what Numba should, up to ten times slower"
_PATHS = (
    _Path("extension", "broken", "the C++ operators fail", f"{_REINSTALL} aosa-fast", needed=True),
    _Path("reader-pyav", "broken", "PyAV cannot read the embedded clip", f"{_REINSTALL} av", needed=True),
    _Path("explain", "broken", "the embedded clip cannot be explained", needed=True),
    _Path("compiled-code", "slow", _SLOWER),
    _Path("onednn", "slow", "convolutions of single clips take torch's slower way"),
    _Path(
        "reader-torchcodec", "broken", "torchcodec cannot read, and PyAV reads everything", "pip uninstall torchcodec"
    ),
    _Path("gpu", "broken", "the GPU cannot be used"),
    _Path("conv3d-bfloat16", "broken", "bfloat16 must not be used on this GPU", 'pip install "torch>=2.10" aosa-fast'),
)


def examine() -> list[Check]:
    """Looks at everything, in some seconds; raises nothing."""
    try:
        (own, extras), reason = installed.requirements(), ""
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, the rest can be looked at
        own, extras, reason = [], {}, describe_error(error)
    libraries = dict.fromkeys(installed.trial(each) for parts in (own, *extras.values()) for each in parts)
    # One after the other: what is timed has the processors for itself, and Ctrl-C ends both.
    found = attempt([*libraries]) | attempt([path.trial for path in _PATHS])
    torch = found.get("aosa_fast.doctor.trials:about_torch", {})
    return [
        _check("python", "libraries", _python),
        _check("aosa-fast", "libraries", _package, reason),
        *(_check(each.name, "libraries", installed.check_library, each, found[installed.trial(each)]) for each in own),
        *(_check(path.name, "paths", _path, path, found[path.trial], torch) for path in _PATHS),
        _check("threads", "paths", _threads, torch.get("threads")),
        _check("waiting", "paths", _waiting),
        *(_check(name, "extras", installed.check_extra, name, parts, found) for name, parts in extras.items()),
    ]


def is_healthy(checks: Iterable[Check]) -> bool:
    """Whether nothing that `explain` needs is broken."""
    return not any(check.needed and check.state == "broken" for check in checks)


def report(checks: list[Check]) -> dict[str, Any]:
    """What `--json` writes; its keys stay."""
    return {"aosa_fast": __version__, "ok": is_healthy(checks), "checks": [asdict(check) for check in checks]}


def processors(root: Path = Path("/")) -> float:
    """How many processors this process may use, by its affinity and by what its control group grants."""
    count = float(cores())
    groups, names = root / "sys/fs/cgroup", [""]
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        names += [line.split("::", 1)[1].strip("/") for line in lines if line.startswith("0::")]
    for group in {folder for name in names for folder in (groups / name, *(groups / name).parents)}:
        with suppress(OSError, ValueError, ZeroDivisionError):  # "max" is no number
            quota, period = (group / "cpu.max").read_text().split()
            count = min(count, int(quota) / int(period))
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = ((groups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        count = min(count, int(quota) / int(period)) if int(quota) > 0 else count
    return count


def _check(name: str, group: str, make: Callable[..., Facts], *given: Any) -> Check:
    try:
        return Check(name, group, **make(*given))
    except Exception as error:  # noqa: BLE001 - what is damaged may be anything, and all else is still to be said
        return Check(name, group, "broken", f"it cannot be looked at: {describe_error(error)}")


def _python() -> Facts:
    facts = {"version": platform.python_version(), "system": platform.system(), "machine": platform.machine()}
    return {"state": "ok", "text": "{version} on {system} {machine}".format(**facts), "facts": facts}


def _package(reason: str) -> Facts:
    facts = {"version": __version__, "path": str(Path(__file__).parents[1])}
    if reason:
        text = f"{__version__}, whose requirements cannot be read: {reason}"
        return {"state": "broken", "text": text, "command": "pip install aosa-fast packaging", "facts": facts}
    if (number := version("aosa-fast")) != __version__:
        text = f"{__version__} is found, and {number} is installed"
        return {"state": "broken", "text": text, "command": f"{_REINSTALL} aosa-fast", "facts": facts}
    return {"state": "ok", "text": __version__, "facts": facts}


def _path(path: _Path, found: Facts, torch: Facts) -> Facts:
    said: Facts = {"tried": True, "needed": path.needed}
    if "error" not in found:
        return said | found
    if path.name == "reader-torchcodec" and found["lacks"] == "torchcodec":
        text = "it is missing, and PyAV reads everything; it needs FFmpeg's libraries, too"
        return said | {"state": "missing", "text": text, "command": "pip install torchcodec", "tried": False}
    # Where another library is missing, or torch fails, that says what is to be done.
    ours = (found["lacks"] or "aosa_fast").startswith("aosa_fast") and "error" not in torch
    command = path.command if ours else ""
    return said | {"state": path.state, "text": f"{path.text}: {found['error']}", "command": command, "facts": found}


def _threads(number: int | None) -> Facts:
    cores = processors()
    facts = {"threads": number, "processors": cores, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}
    text = f"torch takes {number} thread{'s' * (number != 1)}, and {cores:g} processors may be used"
    state, command = "ok", ""
    if number is None:
        state, text = "missing", f"torch does not say how many it takes; {cores:g} processors may be used"
    elif number > math.ceil(cores):
        state, command = "slow", f"export OMP_NUM_THREADS={max(1, int(cores))}"
    elif 2 * number < cores and facts["OMP_NUM_THREADS"]:
        state, command = "slow", "unset OMP_NUM_THREADS"
    return {"state": state, "text": text, "command": command, "facts": facts, "tried": number is not None}


def _waiting() -> Facts:
    facts = {name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = "export OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0"
    if (facts["OMP_WAIT_POLICY"] or "").lower() == "passive" and facts["GOMP_SPINCOUNT"] in (None, "0"):
        text = "threads sleep while they wait; the command line sees to it, and programs of yours must be started so"
        return {"state": "ok", "text": text, "command": command, "facts": facts}
    text = "threads spin while they wait, which can slow all down thirtyfold where another process is at work"
    return {"state": "slow", "text": text, "command": command, "facts": facts}
