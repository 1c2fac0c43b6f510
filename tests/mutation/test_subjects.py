from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(*options: str) -> str:
    return subprocess.run([sys.executable, HERE, *options], capture_output=True, text=True, check=True).stdout


def test_every_file_has_its_tests_and_every_explanation_its_mutant() -> None:
    run("--list", "--every", "1000000")


def test_what_is_changed() -> None:
    mutants = run("--list", "kernels/farneback.py")
    assert "- check_numbers(2, winsize=winsize)\n    + check_numbers(3, winsize=winsize)\n" in mutants
    assert "- if not 0 < pyr_scale < 1:\n    + if not 0 <= pyr_scale < 1:\n" in mutants
    assert "import" not in mutants
    assert "raise" not in mutants
    assert "at least 2; an even one" not in mutants  # of a docstring


def test_what_says_only_how_fast_something_is_stays() -> None:
    mutants = run("--list", "kernels/tracking_triton.py", "csrc/saliency_map.cpp")
    assert "enable_fp_fusion=True" not in mutants
    assert "num_warps=ANCHORS //" not in mutants
    # Of a line, the rest is changed.
    assert "+ parallel_for(B + T, threads, B * T * (2 * H * W + 8 * N * K1)," in mutants
    assert "threads, B + T" not in mutants
