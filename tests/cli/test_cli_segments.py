"""`aosa-fast explain --segments`: files of labels, boxes and tracks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import aosa_fast
from aosa_fast.cli.segments import seen_by
from aosa_fast.demo import demo_clip_path
from aosa_fast.kernels.reference import tube_masks
from aosa_fast.models import Preprocessing
from aosa_fast.video import VideoClip
from cli_runs import Run, one_line_error


@pytest.mark.parametrize("whole", [False, True])
def test_segments_from_a_file(aosa: Run, whole: bool, tmp_path: Path):
    labels = np.zeros((16, 64, 64), np.uint16)
    labels[:, 10:30, 20:40], labels[:, 40:, 40:] = 7, 300
    if whole:  # of frames that are larger than the model's input
        np.savez(tmp_path / "own.npz", labels=labels.repeat(3, 1).repeat(3, 2))
    else:
        np.save(tmp_path / "own.npy", labels)
    (file,) = tmp_path.iterdir()
    done = aosa("explain", demo_clip_path(), "--segments", file, "--method", "aosa", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert re.search(r"strongest tube .* of 2 tubes, label (7|300)\n", done.stdout)
    found = aosa_fast.Explanation.load(tmp_path / "out" / "explanation.npz")
    assert found.metadata["segments"] == {"kind": "labels", "labels": [7, 300]}
    assert found.metadata["source"]["segments"] == str(file)
    masks = np.stack([labels == label for label in (7, 300)])
    assert np.array_equal(tube_masks(found.boxes, found.members, 64, 64)[0], masks)
    assert (tmp_path / "out" / "overlay.mp4").exists()


def test_segments_of_every_frame_and_in_a_letterbox():
    preprocessing = Preprocessing(4, 2, 8, (8, 8), (0.5,) * 3, (0.5,) * 3, "letterbox")
    clip = VideoClip(np.zeros((4, 8, 8, 3)), (8, 16), (1, 3, 5, 7), (0.0,) * 4, 25.0, 9, 0, (), "x", "images")
    labels = np.arange(1, 10).repeat(8 * 16).reshape(9, 8, 16)
    seen = seen_by(preprocessing, labels, clip)
    assert seen[:, 4, 4].tolist() == [2, 4, 6, 8]
    assert [np.flatnonzero(seen[0].any(axis)).tolist() for axis in (1, 0)] == [[2, 3, 4, 5], list(range(8))]
    assert seen_by(preprocessing, np.zeros((3, 9, 4)), clip).shape == (3, 4, 4)


def test_a_file_that_is_no_array_is_one_line(aosa: Run, tmp_path: Path):
    (tmp_path / "text.npy").write_text("labels")
    np.savez(tmp_path / "two.npz", a=np.zeros(3), b=np.zeros(3))
    np.save(tmp_path / "short.npy", np.zeros((2, 9, 4)))
    for name, words in {
        "none.npy": "none.npy: must be readable; got No such file or directory",
        "text.npy": "text.npy: must be an .npy file, or an .npz file of one array; ",
        "two.npz": "two.npz: must be an .npy file, or an .npz file of one array; got arrays a, b",
        "short.npy": "segments must have the clip's frames, T=16; got 9 of (2, 9, 4)",
    }.items():
        done = aosa("explain", demo_clip_path(), "--segments", tmp_path / name, "--out", tmp_path / "out")
        assert words in one_line_error(done)
