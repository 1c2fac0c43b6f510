"""`--config FILE.toml` and `--save-config FILE.toml`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from aosa_fast.cli.main import app
from aosa_fast.demo import demo_clip_path
from cli_runs import Run, one_line_error

AUDIT, DATA = "nothing", "nothing.csv"  # which are not there: what is read before them is under test
COMMANDS = {
    "explain": ["nothing.mp4", "--target", "3", "--target", 'l\\e"f\t\x7ft\x01', "--minus", "ün", "--areas", "0.1,0.2"],
    "stream": ["nothing.mp4", "--metrics", "-x", "--hop", "3", "--warmup"],
    "serve": ["--model", "nothing", "--allow-host", "a", "--allow-host", "b", "--no-warmup", "--port", "0"],
    "evaluate": [DATA, "--methods", "aosa,osa@3", "--metrics", "deletion", "--radius-px", "1e-7", "--retry"],
    "reproduce": ["VIII", "--model", "R3D=demo", "--per-class", "3"],
    "compare": ["nothing.mp4", "--methods", "osa", "--methods", "aosa", "--columns", "2"],
    "audit": [DATA, "--box", "8x9", "--check-share", "0.5", "--score", "prob", "--gpus", "2"],
    "audit-report": [AUDIT, "--no-confirm", "--trust"],
    "audit-clip": [AUDIT, "id", "--out", "x"],
    "audit-export": [AUDIT, "--to", "csv"],
    "audit-diff": [AUDIT, AUDIT, "--out", "x.csv"],
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def explained(folder: str) -> dict[str, object]:
    return json.loads(Path(folder, "report.json").read_text())


def test_a_saved_file_repeats_the_run(aosa: Run):
    chosen = ["--stride", "6", "--box", "8x10", "--target", "left", "--minus", "3", "--fill", "mean"]
    first = aosa("explain", demo_clip_path(), *chosen, "--out", "a", "--save-config", "sub/run.toml")
    assert first.returncode == 0, first.stderr
    again = aosa("explain", "--config", "sub/run.toml", "--out", "b", "--save-config", "again.toml")
    assert again.returncode == 0, again.stderr
    assert explained("a")["config"] == explained("b")["config"]
    assert explained("b")["target"] == ["left - down"]
    assert Path("again.toml").read_text() == Path("sub/run.toml").read_text().replace('out = "a"', 'out = "b"')
    text = Path("again.toml").read_text()
    assert f'clip = "{demo_clip_path()}"' in text
    assert "fps = 8.0" in text  # defaults too


@pytest.mark.parametrize(("command", "arguments"), COMMANDS.items(), ids=COMMANDS)
def test_every_command_reads_what_it_has_saved(aosa: Run, command: str, arguments: list[str]):
    first = one_line_error(aosa(command, *arguments, "--save-config", "a.toml"))
    again = one_line_error(aosa(command, "--config", "a.toml", "--save-config", "b.toml"))
    assert again == first or again == first.replace("error: ", "error: a.toml: ") or f"={first[7:]}" in again
    assert Path("a.toml").read_text() == Path("b.toml").read_text()
    assert Path("a.toml").read_text().splitlines()[1] == f"[{command}]"


def test_no_command_is_without_that_but_those_of_few_options():
    few = {"demo", "list", "completion", "_complete", "doctor"}
    assert {command.name for command in app.registered_commands} == COMMANDS.keys() | few


def test_the_command_line_goes_before_the_file_and_the_file_before_the_defaults(aosa: Run):
    Path("run.toml").write_text(
        '\ufeff[serve]\nport = 1\n[explain]\nstride = 5\nmin_motion = 1\ntarget = [3, "left"]\n'
    )
    done = aosa("explain", demo_clip_path(), "--config", "run.toml", "--stride", "7", "--target", "up", "--out", "out")
    assert done.returncode == 0, done.stderr
    config = explained("out")["config"]
    assert (config["stride"], config["min_motion"], config["radius"]) == (7, 1.0, 4)
    assert explained("out")["target"] == ["up"]


def test_a_file_of_one_command_has_no_table(aosa: Run):
    clip = shutil.copy(demo_clip_path(), "clip.mp4")
    Path("run.toml").write_text(f'clip = "{clip}"\ntarget = 2\nbox = 8\nareas = [0.1, 0.5]\nout = "here"\n')
    done = aosa("explain", "--config", "run.toml")
    assert done.returncode == 0, done.stderr
    assert explained("here")["target"] == ["up"]
    assert (explained("here")["config"]["box"], explained("here")["config"]["areas"]) == ([8, 8], [0.1, 0.5])


BAD = {
    "unknown key": ("strde = 4", "must hold options of explain; got strde (did you mean stride?)"),
    "an option that is no option of the file": ('config = "x"', "must hold options of explain; got config"),
    "of another command": ("port = 4", "must hold options of explain; got port"),
    "text for a number": ('stride = "x"', "stride: "),
    "a fraction for a whole number": ("stride = 3.5", "3.5"),
    "a bool for a number": ("stride = true", "stride must be one text or number, as on the command line; got True"),
    "a list for one value": ("stride = [3, 4]", "stride must be one text or number"),
    "a date": ("out = 2020-01-01", "out must be one text or number"),
    "no value of several": ("target = []", "target must be a text, a number, or a list of some; got []"),
    "a table for a value": ("[explain.stride]\na = 1", "stride must be one text or number"),
    "below the parser's range": ("fps = 0", "fps: "),
    "below the choice's range": ("stride = 0", "stride must be at least 1; got 0"),
    "not among the choices": ('score = "probe"', "score must be one of prob, logit,"),
    "found out later": ('target = "sideways"', "target must be an index or one of left,"),
    "found out later, of another name": ("size = -3", "frames, stride, size and crop must be at least 1"),
    "a file that is not there": ('clip = "nothing.mp4"', "clip=nothing.mp4: must exist"),
    "twice": ("frame-stride = 1\nframe_stride = 1", "frame_stride must be given once, with - or with _; got both"),
    "twice for TOML": ("stride = 1\nstride = 1", "must be a TOML file; got "),
    "no TOML": ("stride: 1", "must be a TOML file; got "),
    "no UTF-8": ("\udcff", "must be a TOML file; got "),
    "unknown command": ("[explian]\nstride = 1", "must hold tables named after commands; got [explian] (did you mean"),
    "without this command": ("[serve]\nport = 1", "must have a table [explain]; got [serve]"),
    "both ways": ("stride = 1\n[explain]\n", "must hold tables of commands, or options of one command; got stride and"),
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_what_is_wrong_in_a_file_is_one_line_that_names_file_and_key(aosa: Run, content: str, words: str):
    Path("bad.toml").write_bytes(content.encode(errors="surrogateescape"))
    clip = [] if "clip" in content else [demo_clip_path()]
    done = aosa("explain", *clip, "--config", "bad.toml", "--out", "out")
    assert one_line_error(done).startswith("error: bad.toml: ")
    assert words in done.stderr
    assert not Path("out").exists()


def test_a_flag_is_true_or_false(aosa: Run):
    Path("bad.toml").write_text('warmup = "yes"')
    assert "warmup must be true or false; got 'yes'" in one_line_error(aosa("serve", "--config", "bad.toml"))


def test_an_error_about_the_command_line_does_not_name_the_file(aosa: Run):
    Path("run.toml").write_text("stride = 4\nbox = 8\n")
    done = aosa("explain", demo_clip_path(), "--config", "run.toml", "--stride", "0")
    assert one_line_error(done) == "error: stride must be at least 1; got 0"


@pytest.mark.parametrize("name", ["nothing.toml", ".", "/dev/null"])
def test_a_file_that_cannot_be_read(aosa: Run, name: str):
    assert one_line_error(aosa("explain", "--config", name)).startswith(f"error: {name}: must be readable; got ")


def test_nothing_is_saved_where_it_cannot_be(aosa: Run):
    assert "must be a file name; it is a folder" in one_line_error(aosa("serve", "--save-config", "."))
    assert "stride must be at least 1" in one_line_error(aosa("explain", "x", "--stride", 0, "--save-config", "a.toml"))
    if sys.getfilesystemencoding() == "utf-8":
        assert "must hold text that is UTF-8" in one_line_error(aosa("explain", "\udcff", "--save-config", "a.toml"))
    assert list(Path().iterdir()) == []
