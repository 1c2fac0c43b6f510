"""`aosa-fast completion SHELL`, by the shells themselves."""

from __future__ import annotations

import os
import pty
import select
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aosa_fast.cli.completion import FOLLOWING
from aosa_fast.data.registry import KINDS
from aosa_fast.demo.classifiers import SCENE_NETWORKS
from aosa_fast.demo.kinds import KINDS as SCENES
from aosa_fast.demo.planted import SEEDS
from aosa_fast.evaluation.paper import TABLES
from aosa_fast.models import pytorchvideo_models, resnet3d
from aosa_fast.models.registry import FAMILIES
from cli_runs import Run, aosa_process, one_line_error

COMMAND = f'exec {shlex.quote(sys.executable)} -P -c "from aosa_fast.cli.main import main; main()" "$@"'
# How each shell begins: without the user's own files, and with the script.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile"], 'eval "$(aosa-fast completion bash)"'),
    "zsh": (["zsh", "-f"], 'autoload -Uz compinit; compinit -D -u; eval "$(aosa-fast completion zsh)"'),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of files, and `aosa-fast` on the path."""
    program = tmp_path / "bin" / "aosa-fast"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{COMMAND}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    folder = tmp_path / "here"
    for name in ("UCF-101", "sub"):
        (folder / name).mkdir(parents=True)
    for name in ("clip.mp4", "my clip.mp4", "weights.pth"):
        (folder / name).touch()
    monkeypatch.chdir(folder)


def needs(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")


def in_bash(*words: str) -> list[str]:
    """What bash offers for a line, of which it gives the words parted at : and =, the last one at the cursor."""
    needs("bash")
    line = " ".join(map(shlex.quote, words))
    script = (
        f'eval "$(aosa-fast completion bash)"; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); '
        '_aosa_fast; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-uc", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return [text for text in done.stdout.splitlines() if text]


def typed(shell: str, line: str, wanted: str) -> str:
    """What is on the terminal after a line and a tab, as soon as it ends as it should, or after half a minute."""
    needs(shell)
    arguments, setup = SHELLS[shell]
    child, terminal = pty.fork()
    if child == 0:
        os.environ |= {"TERM": "dumb", "PS1": "$ ", "COLUMNS": "200"}
        os.execvp(arguments[0], arguments)
    os.write(terminal, f"{setup}; PS1='ready'' '\n".encode())
    shown, end, sent = "", time.monotonic() + 30, False
    while time.monotonic() < end and not (sent and shown.split("ready ")[-1].replace("\a", "").endswith(wanted)):
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
        elif not sent and "ready " in shown:
            sent = True
            os.write(terminal, f"{line}\t".encode())
    os.close(terminal)
    os.waitpid(child, 0)
    return shown.split("ready ")[-1].replace("\a", "")


@pytest.mark.parametrize(
    ("words", "place", "values"),
    [
        (["ex"], "", ["explain"]),
        (["--ver"], "", ["--version"]),
        (["_comp"], "", []),
        (["nothing", ""], "", []),
        (["bench", "pu"], "", ["publish"]),
        (["bench", "--suite", "sca"], "", ["scaling"]),
        (["explain", "--min"], "", ["--minus", "--min-motion"]),
        (["explain", "--sav"], "", ["--save-config"]),
        (["serve", "--no-w"], "", ["--no-warmup"]),
        (["serve", "--warmup", "--pol"], "", []),
        (["explain", "--", "--meth"], "files\t", []),
        (["explain", "clip.mp4", "--method", "aosa-a"], "", ["aosa-approx"]),
        (["explain", "--method", "capt"], "", ["captum:"]),
        (["explain", "--method=aosa-p"], "", ["--method=aosa-path"]),
        (["evaluate", "--methods", "random,os"], "", ["random,osa"]),
        (["evaluate", "--metrics", "deletion,poi"], "", ["deletion,pointing"]),
        (["audit", "--method", "g"], "", []),  # grad-cam follows no motion
        (["audit", "--method", "aosa-a"], "", ["aosa-approx"]),
        (["demo", "--method", "aosa-a"], "", ["aosa-approx"]),
        (["explain", "--compat", ""], "", ["authors2022"]),
        (["explain", "--flow", "tv"], "", ["tvl1"]),
        (["explain", "--score", ""], "", ["prob", "logit", "logprob", "margin", "sigmoid"]),
        (["explain", "--device", ""], "", ["auto", "cpu", "cuda"]),
        (["explain", "--start", ""], "", ["center"]),
        (["explain", "--box", ""], "", []),
        (["explain", "--fps", ""], "", []),
        (["stream", "--policy", "drop"], "", ["drop-oldest", "drop-newest"]),
        (["audit-export", "x", "--to", "cv"], "", ["cvat"]),
        (["list", "methods", "mod"], "", ["models"]),
        (["reproduce", "VI"], "", ["VI", "VII"]),
        (["reproduce", ""], "", [*TABLES]),
        (["completion", "z"], "", ["zsh"]),
        (["explain", ""], "files\t", []),
        (["explain", "clip.mp4", ""], "", []),
        (["explain", "--out", ""], "dirs\t", []),
        (["explain", "--out=su"], "dirs\t--out=", []),
        (["evaluate", "--annotations", ""], "files\t", []),
        (["evaluate", "man"], "files\t", ["manifest:"]),
        (["evaluate", "rendered:kind=col"], "", ["rendered:kind=colour"]),
        (["evaluate", "ucf101:U"], "files\tucf101:", []),
        (["explain", "--model", "demo-a"], "files\t", ["demo-attention"]),
        (["explain", "--model", "torchv"], "files\t", ["torchvision:"]),
        (["explain", "--model=torchvision:r3"], "", ["--model=torchvision:r3d_18"]),
        (["explain", "--model", "resnet3d:r3d50"], "", ["resnet3d:r3d50:"]),
        (["explain", "--model", "resnet3d:r3d50:w"], "files\tresnet3d:r3d50:", []),
        (["explain", "--model", "resnet3d:r3d50:"], "files\tresnet3d:r3d50:", []),
        (["explain", "--model", "python:mine:"], "", []),
        (["reproduce", "I", "--model", "R3D=torchvision:r3"], "", ["R3D=torchvision:r3d_18"]),
        (["reproduce", "I", "--model", "R3D=demo-s"], "files\tR3D=", ["R3D=demo-scene:"]),
    ],
)
def test_what_may_follow(aosa: Run, words: list[str], place: str, values: list[str]):
    done = aosa("_complete", "--", *words)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert (first, [line.split("\t")[0] for line in others]) == (place, values)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["explain", "--model", "torchvision", ":"], list(FOLLOWING["torchvision"])),
        (["explain", "--model", "=", "torchvision", ":", "r3"], ["r3d_18"]),
        (["evaluate", "rendered", ":", "kind", "=", "co"], ["colour"]),
        (["evaluate", "rendered", ":", ""], []),  # a word of its own
        (["explain", "--method", "=", "aosa-p"], ["aosa-path"]),
        (["explain", "my"], ["my clip.mp4"]),
        (["explain", "--out", ""], ["UCF-101", "sub"]),
        (["evaluate", "ucf101", ":", "UC"], ["UCF-101"]),
        (["evaluate", "m"], ["manifest:", "my\\ clip.mp4"]),  # bash itself quotes where there are files only
    ],
)
def test_what_bash_offers(words: list[str], offered: list[str]):
    assert sorted(in_bash("aosa-fast", *words)) == sorted(offered)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("aosa-fast explain --model torchvision:r3", "--model torchvision:r3d_18 "),
        ("aosa-fast evaluate rendered:kind=col", "evaluate rendered:kind=colour "),
        ("aosa-fast explain my", "explain my\\ clip.mp4 "),
    ],
)
def test_a_tab_on_a_terminal(shell: str, line: str, wanted: str):
    assert typed(shell, line, wanted).endswith(wanted)


def test_what_fish_offers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    needs("fish")
    monkeypatch.setenv("HOME", str(tmp_path))
    lines = [
        *("explain --model torchvision:r3", "explain --method=aosa-p", "explain --out su"),
        *("evaluate ucf101:UC", "explain cl"),
    ]
    asked = "; ".join(f"complete -C {shlex.quote(f'aosa-fast {line}')}" for line in lines)
    asked += "; complete -C '~/bin/aosa-fast audit-e'"
    script = f"aosa-fast completion fish | source; {asked}"
    done = subprocess.run(["fish", "--no-config", "-c", script], capture_output=True, text=True, check=True)
    offered = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert offered == [
        "torchvision:r3d_18",
        "--method=aosa-path",
        "sub/",
        "ucf101:UCF-101/",
        "clip.mp4",
        "audit-export",
    ]
    assert "AOSA from the mean gradient" in done.stdout


def test_an_answer_needs_no_torch():
    probe = (
        "import sys, aosa_fast.cli.main as cli; sys.argv[1:] = ['_complete', '--', 'explain', '--me']\n"
        "try:\n    cli.main()\nexcept SystemExit:\n"
        "    print([name for name in ('torch', 'cv2', 'numba', 'av', 'pyarrow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1].startswith("--method\t")
    assert done.stdout.splitlines()[-1] == "[]"


def test_another_shell_is_one_line(aosa: Run):
    assert one_line_error(aosa("completion", "tcsh")) == "error: shell must be one of bash, zsh, fish; got tcsh"
    assert "completion" in aosa("--help").stdout
    assert "_complete" not in aosa_process("--help").stdout


def test_the_names_behind_a_colon_are_those_that_there_are():
    video = pytest.importorskip("torchvision.models").video
    listed = pytest.importorskip("torchvision.models").list_models(module=video)
    assert sorted(FOLLOWING["torchvision"]) == sorted(listed)
    assert FOLLOWING["demo-scene"] == tuple(SCENE_NETWORKS)
    assert FOLLOWING["demo-planted"] == (*map(str, SEEDS), "attention", "none")
    assert FOLLOWING["pytorchvideo"] == tuple(pytorchvideo_models.SAMPLING)
    assert FOLLOWING["resnet3d"] == tuple(f"{name}:" for name in resnet3d.NAMES)
    assert FOLLOWING["rendered"] == tuple(f"kind={name}" for name in SCENES)
    assert set(FOLLOWING) <= {*FAMILIES, *KINDS}
