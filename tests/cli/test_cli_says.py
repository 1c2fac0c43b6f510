"""What is said of the model where none is given, and of scores that are larger than the probability beside them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import aosa_fast
from aosa_fast.demo import CLASS_NAMES, demo_clip_path
from aosa_fast.demo.render import render_clip
from aosa_fast.video import write_image
from cli_runs import Run, aosa_process, one_line_error

WAVES = """
import torch
class Waves(torch.nn.Module):
    def forward(self, video):
        steep = torch.sin(300 * video.mean((1, 2, 3, 4)) + 1)
        return torch.stack([steep, -steep], 1)
def make():
    return Waves()
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "waves.py").write_text(WAVES)


def lines(text: str, name: str) -> list[str]:
    return [line for line in text.splitlines() if line.split("  ")[0] == name]


def assert_names_the_classes(text: str) -> None:
    assert "six synthetic motions only" in text
    assert all(name in text for name in CLASS_NAMES)


def test_explain_and_compare_without_a_model_say_what_the_embedded_one_knows(aosa: Run):
    done = aosa("explain", demo_clip_path(), "--target", 0, "--target", 1, "--out", "out")
    assert len(lines(done.stdout, "model")) == 1
    assert_names_the_classes(lines(done.stdout, "model")[0])
    assert "--model SPEC" in done.stdout
    done = aosa("compare", demo_clip_path(), "--methods", "gradient")
    assert len(lines(done.stdout, "model")) == 1
    assert lines(aosa("explain", demo_clip_path(), "--model", "demo").stdout, "model") == []
    assert lines(aosa("demo", "--method", "gradient").stdout, "model") == []
    assert "model" not in one_line_error(aosa("explain", "nothing.mp4"))


def test_evaluate_and_stream_say_so_on_a_users_own_clips_only(aosa: Run):
    for label, name in enumerate(("left", "right")):
        for i, frame in enumerate(render_clip(label, label=label).frames):
            write_image(Path("clips", name, "clip", f"{i:02}.png"), frame)
    options = ["--methods", "random", "--metrics", "pointing", "--limit", "1"]
    done = aosa("evaluate", "clips", *options, "--out", "own")
    assert len(lines(done.stdout, "model")) == 1, done.stderr
    done = aosa("evaluate", "rendered", *options, "--out", "rendered")
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout, "model") == []
    done = aosa("stream", demo_clip_path(), "--out", "maps.mp4", "--hop", "16")
    assert len(lines(done.stdout, "model")) == 1, done.stderr


@pytest.mark.parametrize("command", ["explain", "compare", "evaluate", "stream", "serve", "audit"])
def test_the_help_says_so(aosa: Run, command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "400")
    assert_names_the_classes(aosa(command, "--help").stdout)


def test_the_list_says_so():
    text = " ".join(aosa_process("list", "models", COLUMNS="400").stdout.split())
    assert_names_the_classes(text[text.index("demo ") : text.index("demo-attention")])


def test_python_logs_so(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, "aosa_fast"):
        aosa_fast.models.load()
    assert_names_the_classes(caplog.text)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--model", "demo", "--score", "logit"], "drops of the logit, which may be of any size"),
        (["--model", "demo", "--target", "down", "--minus", "up", "--method", "aosa"], "drops of a difference"),
        (["--model", "python:waves:make", "--relu", "none"], "aosa-approx estimates drops from gradients"),
        (["--model", "python:waves:make", "--method", "aosa", "--budget-ms", 0], "not hidden within --budget-ms"),
    ],
)
def test_a_score_larger_than_p_is_explained(aosa: Run, arguments: list[object], why: str):
    frames = ["--frames", 16, "--frame-stride", 1, "--size", 64]
    done = aosa("explain", demo_clip_path(), *arguments, *frames, "--out", "out")
    assert done.returncode == 0, done.stderr
    (line,) = lines(done.stdout, "larger than p")
    assert why in line


@pytest.mark.parametrize("method", ["aosa-approx", "aosa", "motion-tubes", "gradient"])
def test_nothing_is_said_where_no_score_is_larger_than_p(aosa: Run, method: str):
    done = aosa("explain", demo_clip_path(), "--model", "demo", "--method", method, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout, "larger than p") == []
