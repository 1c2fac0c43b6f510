"""What works where a library is missing, and what is said; and terminals that cannot show everything."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from aosa_fast import libraries
from aosa_fast.demo import demo_clip_path
from aosa_fast.errors import InputError
from aosa_fast.models import Preprocessing
from cli_runs import Done, one_line_error

EXTRAS = (
    "pyarrow", "sklearn", "jinja2", "matplotlib", "skimage", "zarr", "ray", "torchvision", "transformers",
    "pytorchvideo", "torchcodec", "scipy", "pandas",
)  # fmt: skip
# Commands one after the other, in a process where some libraries cannot be imported.
CODE = """
import json, sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
missing, broken, commands = json.loads(sys.argv[1])
class Broken(Loader):
    def create_module(self, spec): pass
    def exec_module(self, module): raise ImportError("libGL.so.1: cannot open shared object file")
class Finder(MetaPathFinder):
    def find_spec(self, name, path, target=None): return ModuleSpec(name, Broken()) if name in broken else None
sys.meta_path.insert(0, Finder())
sys.modules.update(dict.fromkeys(missing))
from aosa_fast.cli.main import main
for command in commands:
    sys.argv = ["aosa-fast", *command]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
print(*({"torch"} & set(sys.modules)), file=sys.stderr)
"""


def without(missing: tuple[str, ...], *commands: tuple[object, ...], broken: tuple[str, ...] = ()) -> Done:
    given = json.dumps([missing, broken, [[*map(str, command)] for command in commands]])
    done = subprocess.run([sys.executable, "-P", "-c", CODE, given], capture_output=True, text=True, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


def test_without_extras_and_opencv_clips_are_explained_and_compared(tmp_path: Path):
    clip = demo_clip_path()
    done = without(
        EXTRAS,
        ("--help",),
        ("explain", clip, "--out", tmp_path / "explain", "--method", "aosa-path"),
        ("demo", "--out", tmp_path / "demo", "--method", "aosa-approx"),
        ("compare", clip, "--methods", "osa,grad-cam,smoothgrad,aosa-approx,centre", "--out", tmp_path / "compare.png"),
        broken=("cv2",),
    )
    assert (done.returncode, done.stderr.strip()) == (0, "torch")
    assert {path.name for path in tmp_path.iterdir()} == {"explain", "demo", "compare.png"}


OPENCV = (
    "OpenCV must be importable for this; got import of cv2 halted; None in sys.modules: pip install --force-reinstall "
    "--no-deps opencv-contrib-python-headless, or apt-get install libgl1 libglib2.0-0"
)
NEEDS = {
    "audit": (("audit", "x.csv"), "pyarrow", 'must have pyarrow; it is missing: pip install "aosa-fast[audit]"'),
    "bench verify": (("bench", "verify", "warm approx s=8"), "captum", "the part warm must have captum; it is missing"),
    "audit --demo": (("audit", "--demo"), "sklearn", "audit must have sklearn; it is missing"),
    "audit --dense": (("audit", "x.csv", "--dense"), "zarr", "dense must have zarr; it is missing: pip install "),
    "audit --engine ray": (("audit", "x.csv", "--engine", "ray"), "ray", "ray must have ray; it is missing"),
    "audit of rendered clips": (("audit", "rendered"), "skimage", "audit must have skimage; it is missing"),
    "audit without OpenCV": (("audit", "x.csv"), "cv2", OPENCV),
    "audit-report": (("audit-report", "x"), "jinja2", "audit must have jinja2; it is missing"),
    "bench": (("bench", "--suite", "peers"), "captum", "the part peers must have captum; it is missing: pip install"),
    "bench plot": (("bench", "plot"), "matplotlib", "bench plot must have matplotlib; it is missing"),
    "audit-clip": (("audit-clip", "x", "y"), "pyarrow", "audit must have pyarrow; it is missing"),
    "audit-diff": (("audit-diff", "x", "y"), "pyarrow", "audit must have pyarrow; it is missing"),
    "audit-export": (("audit-export", "x", "--to", "csv"), "pyarrow", "audit must have pyarrow; it is missing"),
    "evaluate": (("evaluate", "x.csv"), "matplotlib", "evaluate must have matplotlib; it is missing: pip install"),
    "evaluate sanity": (("evaluate", "x.csv", "--metrics", "sanity"), "skimage", "evaluate must have skimage; it is"),
    "evaluate --model": (
        ("evaluate", "x.csv", "--model", "torchvision:r3d_18"), "torchvision",
        "model=torchvision:r3d_18 must have torchvision; it is missing: pip install \"aosa-fast[models]\"",
    ),
    "reproduce": (("reproduce", "I"), "skimage", "evaluate must have skimage; it is missing"),
    "reproduce --model": (("reproduce", "I", "--model", "R3D=hf:x"), "transformers", "must have transformers; it is"),
}  # fmt: skip


@pytest.mark.parametrize(("command", "library", "words"), NEEDS.values(), ids=NEEDS.keys())
def test_a_missing_extra_is_said_before_anything_else(command: tuple[str, ...], library: str, words: str):
    done = without((library,), command)
    assert words in one_line_error(done)  # and torch was not loaded, which takes the time


def test_a_library_that_is_there_but_broken_is_told_from_a_missing_one():
    done = without((), ("audit", "x.csv"), broken=("pyarrow",))
    assert one_line_error(done) == (
        "error: audit must have pyarrow; it cannot be imported (libGL.so.1: cannot open shared object file): "
        'pip install "aosa-fast[audit]"'
    )


def test_a_folder_cv2_that_is_left_of_two_builds_is_no_opencv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cv2").mkdir()
    libraries.opencv.cache_clear()
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "cv2", raising=False)
        patch.setattr(sys, "path", [str(tmp_path)])
        with pytest.raises(InputError, match="got a folder cv2 without OpenCV in it: pip install --force-reinstall"):
            libraries.check_opencv()
    libraries.opencv.cache_clear()


SIZES = [(64, 64), (32, 32), (128, 128), (40, 31), (17, 50), (63, 65), (300, 64), (64, 300), (1, 70), (70, 1), (33, 97)]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("short", [1, 16, 32, 64, 77])
def test_resizing_without_opencv_has_its_bits(size: tuple[int, int], short: int, monkeypatch: pytest.MonkeyPatch):
    frames = np.random.default_rng(short).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    frames[1] = frames[1] // 128 * 255
    preprocessing = Preprocessing(2, 1, short, (short, short), (0.5,) * 3, (0.5,) * 3)
    expected = preprocessing.crop_frames(frames)
    libraries.opencv.cache_clear()
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "cv2", None)
        found = preprocessing.crop_frames(frames)
        assert isinstance(libraries.opencv(), ImportError)
    libraries.opencv.cache_clear()
    assert np.array_equal(found, expected)


def test_what_a_terminal_cannot_show_is_escaped(tmp_path: Path):
    clip = tmp_path / "日本.mp4"
    shutil.copy(demo_clip_path(), clip)
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from aosa_fast.cli.main import main; main()", "explain", clip.name],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"out/\u65e5\u672c/sheet.png" in done.stdout
    assert len([*(tmp_path / "out" / "日本").iterdir()]) == 4


@pytest.mark.parametrize("arguments", [["--help"], ["explain", "--help"], ["explain", "é", "--method", "→"]], ids=str)
@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_no_encoding_stops_a_command(arguments: list[str], encoding: str):
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from aosa_fast.cli.main import main; main()", *arguments],
        capture_output=True,
        encoding=encoding,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if "--help" in arguments else 2)


def test_nobody_reads_on(tmp_path: Path):
    code = (
        "import sys; from aosa_fast.cli.terminal import consoles; out, errors = consoles()\n"
        "for i in range(3000): out.print(i, 'x' * 60); errors.print(i)\n"
        "open(sys.argv[1], 'w').write('done')"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, tmp_path / "file"], stdout=writer, stderr=subprocess.PIPE, check=False
    )
    os.close(writer)
    assert done.returncode == 0
    assert done.stderr.split() == [str(i).encode() for i in range(3000)]
    assert (tmp_path / "file").read_text() == "done"
