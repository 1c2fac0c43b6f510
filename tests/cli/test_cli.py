from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import aosa_fast
from aosa_fast.demo import demo_clip_path
from cli_runs import Run, aosa_process, one_line_error


def count_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.fixture(scope="module")
def model_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("user")
    (folder / "mine.py").write_text(
        "import torch\n"
        "def make():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d(2), torch.nn.Flatten(), torch.nn.Linear(24, 5))\n"
        "def wrong():\n"
        "    return torch.nn.AdaptiveAvgPool3d(2)\n"
        "def number():\n"
        "    return 3\n"
        "def broken():\n"
        "    raise OSError('no\\nweights here')\n"
        "class Fails(torch.nn.Module):\n"
        "    def forward(self, video):\n"
        "        return torch.zeros(2) @ video.flatten(1)\n"
        "from aosa_fast.models import Classifier, load\n"
        "from aosa_fast.models.preprocess import Preprocessing\n"
        "class Own(Preprocessing):\n"
        "    def crop_frames(self, frames):\n"
        "        return super().crop_frames(frames) / self.divisor\n"
        "def own(divisor):\n"
        "    demo = load('demo')\n"
        "    own = Own(*vars(demo.preprocessing).values())\n"
        "    object.__setattr__(own, 'divisor', divisor)\n"
        "    return Classifier(demo.network, own)\n"
        "def scales():\n"
        "    return own(255)\n"
        "def divides():\n"
        "    return own('x')\n"
        "class Stays(torch.nn.Identity):\n"
        "    def to(self, *where):\n"
        "        raise RuntimeError('not there')\n"
        "class InTraining(torch.nn.Identity):\n"
        "    def eval(self):\n"
        "        raise RuntimeError('never')\n"
        "def fails():\n"
        "    return Fails()\n"
    )
    return folder


def test_help_answers_without_torch_and_reads_the_choices_from_config():
    done = aosa_process("explain", "--help")
    assert done.returncode == 0
    for word in ("--method", "aosa-approx|aosa|aosa-path", "--partners-rule", "--target", "Exit codes"):
        assert word in done.stdout
    probe = "import sys, aosa_fast.cli.main; print(any(m in sys.modules for m in ('torch', 'cv2', 'numba', 'av')))"
    loaded = subprocess.run([sys.executable, "-P", "-c", probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "False"


@pytest.mark.parametrize(
    "command", ["explain", "stream", "serve", "evaluate", "reproduce", "audit", "completion", "bench"]
)
def test_an_example_in_the_help_is_one_line_on_a_narrow_terminal(
    aosa: Run, monkeypatch: pytest.MonkeyPatch, command: str
):
    monkeypatch.setenv("COLUMNS", "80")
    lines = aosa(command, "--help").stdout.splitlines()
    after = [below for line, below in pairwise(lines) if re.match(" (aosa-fast|curl|ffmpeg|eval) ", line)]
    assert after
    assert not "".join(after).strip()


def test_a_paragraph_of_the_help_is_as_wide_as_the_terminal(aosa: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "500")
    for command in ("doctor", "stream", "bench"):
        paragraphs = aosa(command, "--help").stdout.partition("╭")[0].splitlines()
        assert all(not line.strip() for line in paragraphs[::2]), command
        assert all(line.strip() for line in paragraphs[1::2]), command
    assert "See what a video classifier looks at" in aosa("--help").stdout


def test_version(aosa: Run):
    assert aosa("--version").stdout.strip() == f"aosa-fast {aosa_fast.__version__}"


def test_explain_writes_everything(tmp_path: Path):
    out = tmp_path / "a" / "b"
    done = aosa_process("explain", demo_clip_path(), "--out", out, "--check", 3)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in out.iterdir()) == ["explanation.npz", "overlay.mp4", "report.json", "sheet.png"]
    for name in ("overlay.mp4", "sheet.png", "explanation.npz"):
        assert str(out / name) in done.stdout
    assert "right" in done.stdout
    assert count_frames(out / "overlay.mp4") == 16
    report = json.loads((out / "report.json").read_text())
    assert report["prediction"] == ["right"]
    assert report["source"]["frame_indices"] == list(range(16))
    assert len(report["self_check"]["exact"][0]["tubes"]) == 3
    loaded = aosa_fast.Explanation.load(out / "explanation.npz")
    assert loaded.saliency.shape == (1, 16, 64, 64)
    with Image.open(out / "sheet.png") as sheet:
        assert sheet.size[0] > 400


def test_several_targets_and_a_difference_give_a_file_each(aosa: Run, tmp_path: Path):
    done = aosa("explain", demo_clip_path(), "--target", "left", "--target", "3", "--minus", "right", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    names = {p.name for p in tmp_path.glob("*.npz")}
    assert names == {"left---right.explanation.npz", "down---right.explanation.npz"}


@pytest.mark.parametrize(("resize", "shape"), [("short", (37, 37)), ("exact", (37, 53)), ("letterbox", (53, 53))])
def test_the_user_s_own_model_and_a_folder_of_frames(
    aosa: Run, resize: str, shape: tuple[int, int], tmp_path: Path, model_module: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(model_module)
    rng = np.random.default_rng(0)
    for i in range(20):
        Image.fromarray(rng.integers(0, 255, (37, 53, 3), dtype=np.uint8)).save(tmp_path / f"frame_{i}.png")
        Image.new("L", (53, 37)).save(tmp_path / f"flow_x_{i}.png")
    done = aosa(
        *("explain", tmp_path / "frame_*.png", "--model", "python:mine:make", "--frames", 6, "--frame-stride", 2),
        *("--size", 32, "--resize", resize),
        *("--box", "8x10", "--method", "aosa", "--target", 4, "--out", tmp_path / "out"),
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["config"]["box"] == [8, 10]
    assert report["shape"] == {"B": 1, "T": 6, "H": 32, "W": 32}
    assert report["source"]["frame_indices"] == [4, 6, 8, 10, 12, 14]
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        shown = container.streams.video[0]
        assert shown.height / shown.width == pytest.approx(shape[0] / shape[1], rel=0.06)


@pytest.mark.parametrize(("budget", "line"), [(0, "0 of 64"), (1e9, "64 of 64, estimated agreement 1.000")])
def test_a_budget_says_how_far_it_went(aosa: Run, budget: float, line: str, tmp_path: Path):
    done = aosa("explain", demo_clip_path(), "--method", "aosa", "--budget-ms", budget, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^exact tubes +{line}$", done.stdout, re.MULTILINE)


BAD = {
    "missing file": (["nothing.mp4"], "nothing.mp4"),
    "unknown method": (["CLIP", "--method", "magic"], "method must be one of"),
    "unknown option": (["CLIP", "--nope"], "--nope"),
    "text for a number": (["CLIP", "--stride", "x"], "--stride"),
    "no stride": (["CLIP", "--stride", "0"], "stride must be at least 1"),
    "bad box": (["CLIP", "--box", "2x3x4"], "box must be"),
    "class out of range": (["CLIP", "--target", "6"], "target must be a class from 0 to 5; got 6"),
    "unknown class": (["CLIP", "--target", "sideways"], "sideways"),
    "unknown model": (["CLIP", "--model", "magic"], "model must be one of demo"),
    "unknown torchvision model": (["CLIP", "--model", "torchvision:r3d_19"], "r3d_18"),
    "weights that are not here": (["CLIP", "--model", "torchvision:r3d_18"], "download them from https://"),
    "no such module": (["CLIP", "--model", "python:no_such_module:f"], "no_such_module"),
    "too many frames": (["CLIP", "--frames", "17"], "got 16"),
    "start beyond the end": (["CLIP", "--start", "9"], "clip.mp4"),
    "unknown resize": (["CLIP", "--resize", "crop"], "resize must be one of short, exact, letterbox; got crop"),
    "budget of another method": (["CLIP", "--budget-ms", "9"], "budget_ms must come with method=aosa"),
    "samples without conditional fill": (["CLIP", "--samples", "3"], "samples must be 0"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD.values(), ids=BAD.keys())
def test_bad_input_gets_one_line_and_exit_code_2(
    aosa: Run, arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    given = [str(demo_clip_path()) if a == "CLIP" else a for a in arguments]
    done = aosa("explain", *given, "--out", tmp_path / "out")
    assert words in one_line_error(done)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("function", "words", "own"),
    [
        ("wrong", "one row of class scores", False),
        ("number", "got int", False),
        (
            "scales",
            "crop_frames must make uint8 of shape (1, 64, 64, 3), the model's input; got float64 (1, 64, 64, 3)",
            False,
        ),
        ("broken", "it raised OSError: no weights here", True),
        ("Stays", "model=python:mine:Stays must go to cpu; it raised RuntimeError: not there", True),
        ("InTraining", "it raised RuntimeError: never", True),
        ("divides", "Own.crop_frames must work on the frames; it raised TypeError: ufunc 'divide' not supported", True),
        ("fails", "it was given (B, C, T, H, W) = (1, 3, 16, 112, 112)", True),
    ],
)
def test_a_model_that_does_not_fit_is_one_line_and_debug_shows_where_its_own_error_comes_from(
    aosa: Run, function: str, words: str, own: bool, model_module: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(model_module)
    command = ["explain", demo_clip_path(), "--model", f"python:mine:{function}", "--frame-stride", 1, "--out", "out"]
    assert words in one_line_error(aosa(*command))
    for arguments in (["--debug", *command], [*command, "--debug", "--debug"]):
        done = aosa(*arguments)
        assert done.returncode == 2
        assert "Traceback" in done.stderr
        assert ("mine.py" in done.stderr) == own
        assert words in done.stderr.strip().splitlines()[-1]
    assert not (model_module / "out").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_full_disk_behind_stdout_or_stderr(stream: str, tmp_path: Path):
    command = [sys.executable, "-P", "-c", "from aosa_fast.cli.main import main; main()", "explain"]
    command += ["--help"] if stream == "1" else [str(tmp_path / "nothing.mp4")]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {stream}>/dev/full', "sh", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    words = "error: stdout must be writable; got No space left on device\n" if stream == "1" else ""
    assert done.stdout + done.stderr == words


def test_an_output_that_cannot_be_written(aosa: Run, tmp_path: Path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        assert str(out) in one_line_error(aosa("explain", demo_clip_path(), "--out", out))


def test_demo_says_how_much_lies_on_the_object(aosa: Run, tmp_path: Path):
    done = aosa("demo", "--out", tmp_path, "--method", "aosa-path")
    assert done.returncode == 0, done.stderr
    assert "prediction       right" in done.stdout
    assert "true class       right" in done.stdout
    share = int(done.stdout.split("on the object")[1].split("%")[0])
    assert 30 <= share <= 100  # in 8 % of the volume; 46 was measured


def test_real_clips(aosa: Run, shared_data: Path, tmp_path: Path):
    clips = {
        "kinetics/arm_wrestling.mp4": 8,
        "ucf101/jpg/CliffDiving/v_CliffDiving_g01_c01": 8,
        "broken/video_90.mov": 3,
    }
    for clip, frames in clips.items():
        out = tmp_path / Path(clip).stem
        done = aosa("explain", shared_data / clip, "--out", out, "--start", "0", "--frames", frames)
        assert done.returncode == 0, done.stderr
        assert count_frames(out / "overlay.mp4") == frames


def test_a_damaged_clip_is_explained_with_a_warning(shared_data: Path, tmp_path: Path):
    clip = shutil.copy(shared_data / "broken" / "corrupted.mp4", tmp_path / "two\nlines.mp4")
    done = aosa_process("explain", clip, "--out", tmp_path / "out", "--start", "20")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: ")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "two lines.mp4" in done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["source"]["damaged_packets"] == 1


def test_list_says_what_there_is_and_what_was_meant(aosa: Run):
    done = aosa("list", "methods", "data")
    assert done.returncode == 0, done.stderr
    for name in ("methods", "aosa-approx", "captum:NAME", "data", "ucf101-24:ROOT"):
        assert name in done.stdout
    assert "torchvision" not in done.stdout
    assert "deletion" in aosa("list").stdout
    assert one_line_error(aosa("list", "metric")).endswith("got metric (did you mean metrics?)")
