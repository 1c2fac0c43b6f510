"""What `doctor` says of libraries, paths and extras that are as they should be, and that are not."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from aosa_fast import _C, libraries
from aosa_fast.doctor import Check, installed, processors, trials
from aosa_fast.doctor.attempts import attempt
from aosa_fast.kernels import reference
from cli_runs import Run, aosa_process

CURE = "pip install --force-reinstall --no-deps opencv-contrib-python-headless"
KEYS = {"name", "group", "state", "text", "command", "tried", "needed", "facts"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules and packages are found before all others, here and in processes of ours."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    libraries.version_of.cache_clear()
    return tmp_path


@pytest.fixture(autouse=True)
def forgotten() -> Any:
    yield
    libraries.version_of.cache_clear()


def install(place: Path, name: str, version: str) -> None:
    folder = place / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_everything_is_tried_where_nothing_is_wrong():
    done = aosa_process("doctor", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    assert all(set(check) == KEYS for check in report["checks"])
    found = {check["name"]: check for check in report["checks"]}
    for name in ("torch", "numpy", "opencv-contrib-python", "extension", "reader-pyav", "explain", "models", "audit"):
        assert (found[name]["state"], found[name]["tried"]) == ("ok", True), found[name]
    assert found["extension"]["facts"]["simd"] == _C.simd_level()
    assert found["torch"]["facts"]["version"] == libraries.version_of("torch")
    assert not found["conv3d-bfloat16"]["tried"] or found["gpu"]["state"] == "ok"


def test_without_torch_and_with_an_opencv_that_crashes_all_else_is_said(place: Path):
    (place / "torch.py").write_text("raise OSError('libtorch_cpu.so: undefined symbol')")
    (place / "cv2.py").write_text("import os; os.abort()")
    done = aosa_process("doctor", PYTHONPATH=str(place), OMP_WAIT_POLICY="active")
    assert done.returncode == 1, done.stderr
    lines = [line.split(maxsplit=3) for line in done.stdout.splitlines()]
    found = {words[2]: (words[0], words[3]) for words in lines if len(words) == 4}
    assert found["torch"][0] == "broken"
    assert "OSError: libtorch_cpu.so: undefined symbol" in found["torch"][1]
    assert found["extension"] == ("broken", "the C++ operators fail: OSError: libtorch_cpu.so: undefined symbol")
    assert "--no-deps aosa-fast" not in done.stdout  # which would cure nothing
    assert found["opencv-contrib-python"][0] == "broken"
    assert "it ends its process: SIGABRT" in found["opencv-contrib-python"][1]
    assert "its own flows, --fill blur, evaluate, reproduce and audit need it" in found["opencv-contrib-python"][1]
    assert CURE in done.stdout
    assert found["av"][0] == found["ray"][0] == "ok"
    assert found["waiting"][0] == "slow"
    assert done.stdout.splitlines()[-1].endswith("explain does not work here")


def test_on_a_terminal_texts_stay_in_their_column(aosa: Run, monkeypatch: pytest.MonkeyPatch):
    said = Check(
        "gpu", "paths", "missing", "there is no GPU that torch can use, none that it sees", "pip install a-" + "b" * 50
    )
    monkeypatch.setattr("aosa_fast.cli.doctor.examine", lambda: [said])
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    lines = aosa("doctor").stdout.splitlines()
    first = next(i for i, line in enumerate(lines) if said.name in line)
    assert lines[first].endswith(" there is no GPU that torch can use, none")
    assert lines[first + 1 : first + 3] == [" " * 40 + "that it sees", " " * 40 + said.command]


def test_where_the_command_line_cannot_start_the_module_still_answers(place: Path):
    (place / "numpy.py").write_text("raise ImportError('numpy is damaged')")
    done = subprocess.run([sys.executable, "-P", "-m", "aosa_fast.doctor"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert not report["ok"]
    found = {check["name"]: check for check in report["checks"]}
    assert "ImportError: numpy is damaged" in found["numpy"]["text"]
    assert found["numpy"]["command"] == 'pip uninstall -y numpy && pip install "numpy>=2.0,<3"'


def test_what_ends_its_process_is_told_and_the_rest_is_tried(place: Path):
    (place / "leaves.py").write_text("import sys; print('hello', flush=True); sys.stderr.write('why\\n'); sys.exit(3)")
    (place / "ends.py").write_text("import os, sys; sys.stderr.write('no licence\\n'); sys.stderr.flush(); os._exit(3)")
    assert attempt(["leaves", "ends", "gone", "json"]) == {
        "leaves": {"error": "SystemExit: 3", "lacks": None},
        "ends": {"error": "it ends its process: exit code 3, no licence", "lacks": None},
        "gone": {"error": "ModuleNotFoundError: No module named 'gone'", "lacks": "gone"},
        "json": {},
    }


def test_what_does_not_answer_is_given_up(place: Path):
    (place / "sitecustomize.py").write_text("print('hello', end='')")  # which is no answer, and hides none
    (place / "waits.py").write_text("import time; time.sleep(60)")
    assert attempt(["json", "waits"], seconds=3) == {
        "json": {}, "waits": {"error": "no answer within 3 s", "lacks": None}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "version", "found", "state", "text", "command"),
    [
        ("torch>=2.6,<2.16", "2.10.0+cu128", {}, "ok", "2.10.0+cu128 can be imported", ""),
        (
            "torch>=2.6,<2.16",
            "2.5.1",
            {},
            "broken",
            "torch is 2.5.1, and >=2.6,<2.16",
            'pip install "torch>=2.6,<2.16"',
        ),
        ("av>=14.1", "", {"error": "no", "lacks": "av"}, "broken", "av is missing", 'pip install "av>=14.1"'),
        (
            "numba>=0.61",
            "",
            {"error": "no", "lacks": "numba"},
            "slow",
            "NumPy does its work",
            'pip install "numba>=0.61"',
        ),
        (
            "triton>=3.2",
            "",
            {"error": "no", "lacks": "triton"},
            "missing",
            "a GPU needs it",
            'pip install "triton>=3.2"',
        ),
        (
            "rich>=13.8",
            "14.0",
            {"error": "bad", "lacks": None},
            "broken",
            "(bad)",
            "pip uninstall -y rich && pip install",
        ),
    ],
)
def test_a_library(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    version: str,
    found: Any,
    state: str,
    text: str,
    command: str,
):
    requirement = Requirement(line)
    monkeypatch.setattr(sys, "path", [str(place)])
    if version:
        install(place, requirement.name, version)
    said = installed.check_library(requirement, found)
    assert (said["state"], said["needed"]) == (state, requirement.name not in ("numba", "triton"))
    assert text in said["text"]
    assert said.get("command", "").startswith(command)


BOTH = "opencv-contrib-python and opencv-contrib-python-headless share one folder"


@pytest.mark.parametrize(
    ("builds", "found", "state", "text", "command"),
    [
        ({"": "5.1.0.95"}, {"build": "5.1.0", "gui": True, "contrib": True}, "ok", "5.1.0.95, a GUI build", ""),
        (
            {"": "5.1.0.95", "-headless": "5.0.0.93"}, {"build": "5.0.0", "gui": False, "contrib": True},
            "ok", f"5.0.0.93, a headless build ({BOTH}", "",
        ),
        ({"-headless": "4.10.0.82"}, {"build": "4.10.0", "gui": False, "contrib": True}, "broken", "4.10.0.82", CURE),
        ({"": "5.1.0.95"}, {"build": "5.1.0", "gui": False, "contrib": False}, "missing", "without contrib", CURE),
        ({}, {"error": "no", "lacks": "cv2"}, "missing", "it is missing: its own flows, --fill blur", CURE),
        ({"": "5.1.0.95"}, {"error": "ImportError: libGL.so.1", "lacks": None}, "broken", "libGL.so.1", CURE),
    ],
)  # fmt: skip
def test_builds_of_opencv(
    place: Path, monkeypatch: pytest.MonkeyPatch, builds: Any, found: Any, state: str, text: str, command: str
):
    monkeypatch.setattr(sys, "path", [str(place)])
    for name, version in builds.items():
        install(place, f"opencv-contrib-python{name}", version)
    said = installed.check_library(Requirement("opencv-contrib-python>=4.10.0.84,<6"), found)
    assert (said["state"], said["command"], said["needed"]) == (state, command, False)
    assert text in said["text"]


def test_an_extra_is_missing_or_broken_as_its_parts_are(place: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [str(place)])
    install(place, "torchvision", "0.29.1")
    parts = [Requirement("torchvision>=0.21"), Requirement("transformers>=5.20")]
    found: Any = {"torchvision": {}, "transformers": {"error": "no", "lacks": "transformers"}}
    said = installed.check_extra("models", parts, found)
    assert (said["state"], said["command"]) == ("missing", 'pip install "aosa-fast[models]"')
    assert said["text"].endswith("transformers is missing")
    found["torchvision"] = {"error": "operator torchvision::nms does not exist", "lacks": None}
    said = installed.check_extra("models", parts, found)
    assert said["state"] == "broken"
    assert said["command"] == 'pip uninstall -y torchvision && pip install "torchvision>=0.21"'


def test_an_operator_that_errs_is_told(monkeypatch: pytest.MonkeyPatch):
    right = reference.field_scores
    monkeypatch.setattr(reference, "field_scores", lambda *given: tuple(1.001 * values for values in right(*given)))
    with pytest.raises(ArithmeticError, match=r"operators differ by 1\.0e-03 of the largest value"):
        trials.extension()


@pytest.mark.parametrize("level", ["baseline", "avx2"])
def test_an_extension_without_avx_is_slow_on_x86(level: str):
    before = _C.simd_level()
    _C.set_simd_level(level)
    try:
        said = trials.extension()
    finally:
        _C.set_simd_level(before)
    slow = level == "baseline" and platform.machine() == "x86_64"
    assert (said["state"], said["facts"]["simd"]) == ("slow" if slow else "ok", level)


def test_numba_without_a_place_for_its_code_is_slow():
    code = (
        "import json, numba.core.caching; numba.core.caching.CacheImpl._locator_classes = []\n"
        "from aosa_fast.doctor.trials import compiled_code; print(json.dumps(compiled_code()))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert (said["state"], said["facts"]["kept"]) == ("slow", False)
    assert said["command"].startswith("export NUMBA_CACHE_DIR=")


@pytest.mark.parametrize(
    ("files", "count"),
    [
        ({}, 1),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "25000 100000\n"}, 0.25),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/cpu.max": "max 100000\n"}, 1),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "20000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 0.2),
        ({"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}, 1),
    ],
    ids=["none", "v2", "v2 above", "v2 without limit", "v1", "v1 without limit"],
)
def test_processors_that_a_control_group_grants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], count: float
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0}, raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert processors(tmp_path) == count
