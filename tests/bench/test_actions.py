from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq

from aosa_fast.video.writer import write_video

PROGRAM = ("-P", "-m", "aosa_fast.bench.studies.actions")


def test_a_network_of_ones_own_clips_is_trained_and_explained(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("fall", "rise"):
        write_video(tmp_path / f"{name}.mp4", rng.integers(0, 256, (40, 32, 32, 3), np.uint8), fps=25)
    data = tmp_path / "clips.csv"
    boxes = "[[0, 4, 4, 20, 20]]"
    data.write_text(f'path,label,boxes\nfall.mp4,fall,"{boxes}"\nrise.mp4,rise,"{boxes}"\n')

    def run(*words: object) -> str:
        done = subprocess.run(
            [sys.executable, *PROGRAM, *map(str, words)], capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    words = ("--data", data, "--network", "conv", "--steps", 2, "--test", data, "--out", "net.pt")
    assert "accuracy" in run("train", *words)
    run("evaluate", "--data", data, "--network", "net.pt", "--methods", "random", "--two-windows", "--out", "found")
    rows = pq.read_table(tmp_path / "found" / "results.parquet").to_pydict()
    assert rows["clip"] == ["fall.mp4@0", "fall.mp4@9", "rise.mp4@0", "rise.mp4@9"]
    assert rows["status"] == ["ok"] * 4
