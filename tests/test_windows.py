"""What works on Windows: in a process without the modules, functions and signals that Python lacks there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from aosa_fast.demo import demo_clip_path

# Other packages are imported before they could notice.
CODE = """
import asyncio, importlib, json, os, pkgutil, select, signal, subprocess, sys, tempfile
import av, cv2, fastapi, fsspec, matplotlib.pyplot, numba, numpy, PIL.Image, prometheus_client, pyarrow.parquet
import rich.progress, sklearn, torch, torchvision, transformers, typer, uvicorn
import uvicorn.protocols.http.h11_impl
def hide():
    for name in ("fcntl", "grp", "pty", "pwd", "resource", "termios"):
        sys.modules[name] = None
    missing = {
        os: "fork getloadavg getuid killpg nice pread readv register_at_fork sched_getaffinity set_blocking setsid "
        "sysconf uname writev O_NOFOLLOW O_NONBLOCK O_CLOEXEC",
        select: "epoll poll",
        signal: "SIGALRM SIGHUP SIGKILL SIGQUIT SIGUSR1 siginterrupt",
    }
    for module, names in missing.items():
        for name in names.split():
            delattr(module, name)
    fsync = os.fsync
    def flush(descriptor):
        os.write(descriptor, b"")  # there, what was opened to be read cannot be flushed
        fsync(descriptor)
    os.fsync = flush
    sys.platform = "win32"
"""
IMPORT = """
hide()
import aosa_fast, aosa_fast.bench, aosa_fast.kernels
for package in (aosa_fast, aosa_fast.bench, aosa_fast.kernels):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("_triton"):  # there is no Triton
            importlib.import_module(module.name)
"""
RUN = """
hide()
from aosa_fast.cli.main import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["aosa-fast", *command]
    try:
        main()
    except SystemExit as stop:
        print("exit code", stop.code or 0)
"""


def windows(code: str, folder: Path, *commands: tuple[object, ...]) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-P", "-c", CODE + code, json.dumps([[*map(str, command)] for command in commands])]
    return subprocess.run(given, cwd=folder, capture_output=True, text=True, check=False)


def test_every_module_can_be_imported(tmp_path: Path):
    done = windows(IMPORT, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_clip_is_explained_and_what_watches_processes_says_that_it_needs_another_system(tmp_path: Path):
    clip = demo_clip_path()
    done = windows(
        RUN,
        tmp_path,
        ("explain", clip, "--out", "maps", "--method", "aosa-path"),
        ("serve",),
        ("stream", clip, "--out", "maps"),
        ("audit", clip.parent, "--out", "audit"),
    )
    assert [line for line in done.stdout.splitlines() if "exit code" in line] == ["exit code 0", *["exit code 2"] * 3]
    assert done.stderr.splitlines() == [
        f"error: {what} must run on Linux or macOS; got Windows" for what in ("serve", "stream", "an audit")
    ]
    assert {"explanation.npz", "sheet.png"} <= {path.name for path in (tmp_path / "maps").iterdir()}
