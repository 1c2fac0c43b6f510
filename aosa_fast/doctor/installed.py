"""Libraries that are installed, held against what the package asks for; and what is to be run where they do not fit.

Nothing is imported here: `attempts.attempt` says whether a library can be.
"""

from __future__ import annotations

from importlib.metadata import requires
from typing import TYPE_CHECKING

from aosa_fast.doctor.attempts import Facts
from aosa_fast.libraries import OPENCV, OPENCV_CURE, version_of

if TYPE_CHECKING:
    from packaging.requirements import Requirement

EXTRAS = {
    "models": "models of torchvision, transformers and pytorchvideo",
    "evaluate": "evaluate and reproduce",
    "audit": "audits",
    "serve": "the HTTP service",
    "captum": "the methods captum:NAME",
    "dense": "audits with whole maps",
    "notebook": "bars and figures in notebooks",
    "ray": "audits on a cluster",
}
# What is the worse without a library that the package asks for, where `explain` can do without it.
DISPENSABLE = {
    "numba": "NumPy does its work, up to ten times slower",
    "triton": "only work on a GPU needs it",
    "opencv-contrib-python": "its own flows, --fill blur, evaluate, reproduce and audit need it, explain does not",
}
_TRIALS = {
    "torch": "aosa_fast.doctor.trials:about_torch",
    "opencv-contrib-python": "aosa_fast.doctor.trials:about_opencv",
    "pillow": "PIL",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}


def trial(requirement: Requirement) -> str:
    """What is to be tried of a library, for `attempt`."""
    return _TRIALS.get(requirement.name, requirement.name.replace("-", "_"))


def requirements() -> tuple[list[Requirement], dict[str, list[Requirement]]]:
    """Those of the package, and of each of its extras.

    Raises:
        ImportError: there is no package `packaging`, or aosa_fast itself is not installed.
    """
    from packaging.requirements import Requirement

    every = [Requirement(line) for line in requires("aosa-fast") or ()]
    own = [each for each in every if _applies(each, "")]
    return own, {extra: [each for each in every if each not in own and _applies(each, extra)] for extra in EXTRAS}


def _applies(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})


def check_library(requirement: Requirement, found: Facts) -> Facts:
    """What a `doctor.Check` of a library holds, given what was found when it was imported."""
    name, versions = requirement.name, _range(requirement)
    needed = name not in DISPENSABLE
    said = {"tried": True, "needed": needed, "facts": {"version": version_of(name), "wanted": versions, **found}}
    if name in OPENCV:
        return said | _check_opencv(requirement, found)
    fault = _fault(requirement, found)
    if not fault:
        return said | {"state": "ok", "text": f"{_version(name)} can be imported"}
    text, command, missing = fault
    state = "slow" if name == "numba" else "missing" if missing and not needed else "broken"
    return said | {"state": state, "text": text if needed else f"{text}: {DISPENSABLE[name]}", "command": command}


def check_extra(extra: str, parts: list[Requirement], found: dict[str, Facts]) -> Facts:
    """What a `doctor.Check` of an extra holds, given what was found of each trial."""
    said = {"tried": True, "facts": {each.name: version_of(each.name) for each in parts}}
    faults = [fault for each in parts if (fault := _fault(each, found[trial(each)]))]
    if not faults:
        text = ", ".join(f"{each.name} {_version(each.name)}" for each in parts)
        return said | {"state": "ok", "text": f"{EXTRAS[extra]}: {text}"}
    missing = all(missing for _, _, missing in faults)
    command = f'pip install "aosa-fast[{extra}]"'
    if not missing:
        command = next(command for _, command, missing in faults if not missing)
    text = f"{EXTRAS[extra]}: {', '.join(text for text, _, _ in faults)}"
    return said | {"state": "missing" if missing else "broken", "text": text, "command": command}


def _fault(requirement: Requirement, found: Facts) -> tuple[str, str, bool] | None:
    """What is wrong with a library, the command that cures it, and whether it is just not there."""
    name, number, versions = requirement.name, version_of(requirement.name), _range(requirement)
    install = f'pip install "{name}{versions}"'
    if number is None and found.get("lacks") in (name, trial(requirement)):
        return f"{name} is missing", install, True
    if "error" in found:
        # Anew, not over what is there, and with what it asks for: torchvision has to fit torch.
        cure = f"pip uninstall -y {name} && {install}"
        return f"{name} {_version(name)} cannot be imported ({found['error']})", cure, False
    if number is not None and not requirement.specifier.contains(number, prereleases=True):
        return f"{name} is {number}, and {versions} is supported", install, False
    return None


def _version(name: str) -> str:
    return version_of(name) or "of an unknown version"


def _range(requirement: Requirement) -> str:
    """The versions as pyproject.toml has them, the floor first."""
    return ",".join(sorted(map(str, requirement.specifier), reverse=True))


def _check_opencv(requirement: Requirement, found: Facts) -> Facts:
    builds = {name: number for name in OPENCV if (number := version_of(name))}
    said = {"facts": {"builds": builds, "wanted": _range(requirement), **found}, "command": OPENCV_CURE}
    if "error" in found:
        missing = found["lacks"] == "cv2" and not builds
        text = "it is missing" if missing else f"it cannot be imported ({found['error']})"
        text = f"{text}: {DISPENSABLE[requirement.name]}"
        return said | {"state": "missing" if missing else "broken", "text": text}
    number = next((number for number in builds.values() if number.startswith(found["build"])), found["build"])
    text = f"{number}, {'a GUI' if found['gui'] else 'a headless'} build"
    if len(builds) > 1:
        text += f" ({' and '.join(builds)} share one folder: whoever removes one has to install the other again)"
    if not requirement.specifier.contains(number, prereleases=True):
        return said | {"state": "broken", "text": f"{text}; {_range(requirement)} is supported"}
    if not found["contrib"]:
        return said | {"state": "missing", "text": f"{text} without contrib: its flows tvl1, deepflow, ... are missing"}
    return said | {"state": "ok", "text": f"{text}, can be imported", "command": ""}
