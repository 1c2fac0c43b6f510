"""Runs tests on a copy of the package in which one file is changed; the checkout is never touched."""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
import resource
import shutil
import sys
import sysconfig
import time
from pathlib import Path
from queue import SimpleQueue

from extension import ROOT, build

# What the tests would import again and again; nothing of aosa_fast, which is another one in every trial.
PRELOAD = ["torch.distributed.tensor", "pytest", "cv2", "numba", "scipy.stats", "skimage.metrics", "triton.language"]
MEMORY = 16 << 30  # bytes of data; where a size is changed, any number may be asked for

_processes = multiprocessing.get_context("forkserver")


class Workshop:
    """Copies of the package, one for each trial that runs at once."""

    def __init__(self, jobs: int, folder: Path) -> None:
        # Before anything is imported: Triton decides then whether to interpret.
        os.environ |= {"TRITON_INTERPRET": "1", "OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0"}
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # other packages' take longer to import than tests do to run
        _processes.set_forkserver_preload(PRELOAD)
        self._free: SimpleQueue[Path] = SimpleQueue()
        for number in range(jobs):
            copy = folder / str(number)
            for name in ("aosa_fast", "kernels", "bench"):
                place = copy / "aosa_fast" / ("" if name == "aosa_fast" else name)
                shutil.copytree(ROOT / name, place, ignore=shutil.ignore_patterns("kernels", "bench"))
            self._free.put(copy)

    def clean(self, tests: list[str]) -> float:
        """The processor's seconds that the tests take where nothing is changed.

        Raises:
            SystemExit: they fail.
        """
        copy = self._free.get()
        code = _run(copy, tests)
        if code:
            raise SystemExit(f"{' '.join(tests)} fail without any change:\n{(copy / 'report').read_text()}")
        self._free.put(copy)
        return float((copy / "seconds").read_text())

    def trial(self, path: str, text: str, tests: list[str], seconds: float) -> str:
        """What happens with this text of a file: "killed" if the tests fail, crash or do not end, or "survived".

        Of C++ also "invalid" where it does not compile, and "same" where the compiler makes the same code of it.
        """
        copy = self._free.get()
        if path.startswith("csrc/"):
            changed = copy / "aosa_fast" / f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
        else:
            changed = copy / path.replace("kernels/", "aosa_fast/kernels/", 1)
        kept = changed.with_suffix(".kept")
        changed.rename(kept)
        try:
            if path.startswith("csrc/"):
                made = build(path, text, copy / "csrc", changed)
                if made != "built":
                    return made
            else:
                changed.write_text(text, encoding="utf-8")
                # Two texts of one size that are written within a second look alike to the interpreter.
                Path(importlib.util.cache_from_source(str(changed))).unlink(missing_ok=True)
            return "killed" if _run(copy, tests, seconds) else "survived"
        finally:
            kept.replace(changed)
            self._free.put(copy)


def _run(copy: Path, tests: list[str], seconds: float = math.inf) -> int | None:
    process = _processes.Process(target=_test, args=(copy, tests, seconds))
    process.start()
    process.join(60 + 30 * seconds if seconds < math.inf else None)
    process.kill()  # one that waits for something
    process.join()
    return process.exitcode


def _test(copy: Path, tests: list[str], seconds: float) -> None:
    """Ends the process with pytest's exit status."""
    import pytest

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    if seconds < math.inf:
        limit = math.ceil(5 * seconds + 10)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    os.setsid()
    os.chdir(ROOT)
    sys.path.insert(0, str(copy))
    os.environ["PYTHONPATH"] = str(copy)  # for processes that tests start
    report = os.open(copy / "report", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(report, 1)
    os.dup2(report, 2)
    start = time.process_time()
    code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--assert=plain", *tests])
    import aosa_fast

    assert Path(aosa_fast.__file__).is_relative_to(copy), aosa_fast.__file__
    (copy / "seconds").write_text(str(time.process_time() - start))
    sys.stdout.flush()
    os._exit(code)  # no exit handler of a changed package
