"""Several methods on one clip, beside each other: from Python as on the command line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import aosa_fast
from aosa_fast import Comparison, Difference, Explanation, InputError, explain
from aosa_fast.demo import demo_clip_path
from aosa_fast.models import Classifier
from aosa_fast.video import write_video
from aosa_fast.video.comparison import comparison_sheet
from cli_runs import Run
from small_nets import make_net, make_preprocessing, make_video


def make(method: str = "aosa-approx", seed: int = 0, **options: object) -> Explanation:
    return explain(make_net(3), make_video(2, seed=seed), method=method, **{"stride": 16, **options})


class Counted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.calls = make_net(3), 0

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.net(video)


def test_all_methods_explain_the_clip_that_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 256, (4, 56, 56, 3), np.uint8))
    model = Classifier(Counted().eval(), make_preprocessing(crop=(56, 56)), class_names=("a", "b", "c"))
    names = ["grad-cam", "aosa:stride=16:partners=0", "aosa"]
    usual = {"stride": 4, "box": 8}  # 8 and 16 are meant for 112 pixels
    single = [
        explain(model, tmp_path / "clip.mp4", **(usual | choices))
        for choices in ({"method": "grad-cam"}, {"method": "aosa", "stride": 16, "partners": 0}, {"method": "aosa"})
    ]
    alone, model.network.calls = model.network.calls, 0
    reads, read_views = [], aosa_fast.inputs.read_views
    monkeypatch.setattr("aosa_fast.inputs.read_views", lambda *all: reads.append(all) or read_views(*all))
    found = aosa_fast.compare(model, tmp_path / "clip.mp4", names, start=0)
    assert len(reads) == 1
    assert model.network.calls <= alone
    assert list(found.explanations) == names
    for one, other in zip(found.explanations.values(), single, strict=True):
        assert torch.equal(one.saliency, other.saliency)
        assert one.metadata["source"] == other.metadata["source"]
        np.testing.assert_array_equal(one.display, other.display)


def test_choices_hold_for_all_methods() -> None:
    video = make_video()
    flow = torch.zeros(1, 3, 32, 40, 2)
    for choices in ({"flow": "dis-fast", "box": 5}, {"flow": flow, "config": aosa_fast.Config(box=5), "stride": 2}):
        found = aosa_fast.compare(make_net(3), video, "random aosa-approx:radius=2", Difference(1, 0), **choices)
        random, approx = found.explanations.values()
        assert approx.metadata["config"]["flow"] == (
            "dis-fast" if choices["flow"] is not flow else "the caller's array"
        )
        assert (random.config.box, approx.config.box, approx.config.radius) == (5, 5, 2)
        assert approx.config.stride == (2 if "stride" in choices else round(8 * 32 / 112))
        assert approx.metadata["target"] == ["class 1 - class 0"]


def test_all_methods_explain_the_class_of_the_first() -> None:
    class Drawn(torch.nn.Module):
        """Another best class each time."""

        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, video: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return torch.eye(7)[[self.calls % 7] * len(video)] + video.mean((1, 2, 3, 4))[:, None]

    with pytest.warns(UserWarning, match="answers the same clip differently each time"):
        found = aosa_fast.compare(Drawn(), make_video(), ["gradient", "random", "centre", "motion"])
    assert len({tuple(one.metadata["target"]) for one in found.explanations.values()}) == 1


def test_the_sheet_has_a_row_for_each(tmp_path: Path) -> None:
    first, second = make(), make("gradient")
    found = first.compare(second)
    p, name = first.metadata["probability"][1], first.metadata["target"][1]
    sheet = found.sheet(clip=1, columns=2)
    rows = [(one.config.method, one.saliency[1].numpy(), one.config.unit) for one in (first, second)]
    expected = comparison_sheet(first.frames[1], rows, title=f"why {name}?  (p = {p:.3f})", columns=2)
    np.testing.assert_array_equal(sheet, expected)
    found.save(tmp_path / "a.png", clip=1, columns=2)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(np.asarray(image), sheet)
    found.save(tmp_path / "b.jpg")
    second.display = first.frames.repeat(2, 2).repeat(2, 3)
    assert np.abs(found.sheet(clip=1, columns=2).astype(int) - sheet).max() > 0  # the finer pictures are shown
    with pytest.raises(InputError, match=r"^clip must be from 0 to 1; got 2$"):
        found.sheet(clip=2)
    with pytest.raises(InputError, match=r"a\.txt: must end in "):
        found.save(tmp_path / "a.txt")


def test_a_notebook_gets_the_sheet_and_a_terminal_a_line() -> None:
    found = make(class_names=["<i>", "<i>", "<i>"]).compare(make("gradient", class_names=["<i>", "<i>", "<i>"]))
    html = found._repr_html_()
    assert re.match('<img [^<>]*src="data:image/webp;base64,[^"]+">', html)
    assert "1 more" in html
    assert repr(found).startswith("<Comparison of aosa-approx, gradient: why <i>? (p = 0.")


def test_models_that_differ_have_their_probabilities_beside_them() -> None:
    first = make(target=1)
    other = explain(make_net(3, scale=3.0), make_video(2), 1, stride=16)
    found = first.compare({"sharper": other})
    assert list(found.explanations) == ["aosa-approx", "sharper"]
    assert repr(found).endswith("why class 1?>")
    assert found.sheet().shape == first.compare({"same": first}).sheet().shape


def test_names_say_what_differs() -> None:
    first = make()
    found = first.compare([make(stride=8), make("centre")])
    assert list(found.explanations) == ["aosa-approx", "aosa-approx:stride=8", "centre"]
    assert repr(first.compare({"two\nlines": first})).startswith("<Comparison of aosa-approx, two lines: ")


WRONG = {
    "clips": (lambda: make(seed=1, target=0), "other: must be of the same clips; got other frames"),
    "targets": (lambda: make(target=1), "must be of the same target, class 0, class 0; got class 1, class 1"),
    "differences": (lambda: make(target=Difference(0, 1)), "got class 0 - class 1, class 0 - class 1"),
    "sizes": (
        lambda: make(target=0).clip(0),
        "must be of the same clips, with maps of (2, 4, 32, 40); got (1, 4, 32, 40)",
    ),
    "names": (
        lambda: make(target=0),
        "others must have names that differ, as in {'mine': other}; got aosa-approx, aosa-a",
    ),
    "methods": (lambda: "grad-cam", "others must be explanations; got grad-cam: see aosa_fast.compare for methods"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_compared_is_one_line(case: str) -> None:
    other, message = WRONG[case]
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        make(target=0).compare(other() if case in ("names", "methods") else {"other": other()})
    assert "\n" not in str(caught.value)


def test_bad_arguments_are_one_line() -> None:
    with pytest.raises(InputError, match=r"^explanations must be at least one; got none$"):
        Comparison({})
    with pytest.raises(InputError, match=r"^target must be one, for all methods; got a list of 2$"):
        aosa_fast.compare(make_net(3), make_video(), ["random"], [0, 1])
    with pytest.raises(InputError, match=r"^method must be among methods; got method=aosa$"):
        aosa_fast.compare(make_net(3), make_video(), ["random"], method="aosa")
    with pytest.raises(InputError, match=r"^methods must name at least one; got none$"):
        aosa_fast.compare(make_net(3), make_video(), [])
    with pytest.raises(TypeError, match="colour"):
        aosa_fast.compare(make_net(3), make_video(), ["random"], colour=1)


def test_the_command_writes_the_same_picture(aosa: Run, tmp_path: Path) -> None:
    done = aosa(
        "compare", demo_clip_path(), "--methods", "random,aosa-approx", "--columns", 3, "--out", tmp_path / "a.png"
    )
    assert done.returncode == 0, done.stderr
    found = aosa_fast.compare("demo", demo_clip_path(), ["random", "aosa-approx"])
    p = found.explanations["random"].metadata["probability"][0]
    found.save(tmp_path / "b.png", columns=3, title=f"why right?  (p = {p:.3f}, demo)")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
