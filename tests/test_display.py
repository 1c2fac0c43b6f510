"""How an explanation shows itself: in a line, in a notebook, as a figure, and over the pictures of its file."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from PIL import Image

from aosa_fast import Explanation, InputError, explain
from aosa_fast.models import Classifier
from aosa_fast.video import render_overlay, write_video
from aosa_fast.video.overlay import color_limit
from small_nets import make_net, make_preprocessing, make_video

NAMES = ["<b>run</b> & sit", "two\nlines", "x_1$"]


def make(B: int = 1, T: int = 4, **options: object) -> Explanation:
    return explain(make_net(3), make_video(B, T=T), class_names=NAMES, stride=16, **{"target": 0, **options})


def videos(html: str) -> list[np.ndarray]:
    """The frames of each video that is part of a page."""
    found = []
    for data in re.findall(r'src="data:video/mp4;base64,([^"]+)"', html):
        with av.open(io.BytesIO(base64.b64decode(data))) as container:
            assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
            found.append(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))
    return found


def near(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether pictures are the same but for what a codec loses."""
    return a.shape == b.shape and float(np.abs(a.astype(float) - b.astype(float)).mean()) < 12


def test_repr_is_one_line_of_what_was_asked_and_found() -> None:
    one = make(target=1)
    p, best = one.probabilities[0, 1], one.scores.max()
    assert repr(one) == (
        f"<Explanation by aosa-approx of 'two\\nlines' (p = {p:.3f}): 4 frames of 40x32 pixels, "
        f"drop of the probability, strongest tube {best:+.3g} of 4>"
    )
    many = repr(make(B=5, T=1, method="gradient"))
    assert many.count("(p = ") == 3
    assert re.search(r"\), \.\.\.: 5 clips of 1 frame of 40x32 pixels, [^>]+>$", many)
    assert "tube" not in many


def test_a_notebook_gets_the_overlay_as_a_video_and_its_colours_with_their_limits() -> None:
    one = make()
    saliency = one.saliency[0].numpy()
    html = one._repr_html_()
    (frames,) = videos(html)
    painted = render_overlay(one.frames[0], saliency)
    assert near(frames, painted)
    assert not near(frames, render_overlay(one.frames[0], np.zeros_like(saliency)))
    limit = color_limit(saliency)
    assert f"{min(limit, saliency.max()):+.3g}<" in html
    assert "drop of the probability" in html
    assert f"aosa-approx: why &lt;b&gt;run&lt;/b&gt; &amp; sit?  (p = {one.probabilities[0, 0]:.3f})" in html
    assert "<b>" not in html
    assert "http" not in html


def test_of_many_clips_a_notebook_shows_the_first_and_says_so() -> None:
    many = make(B=5)
    html = many._repr_html_()
    shown = videos(html)
    assert len(shown) == 3
    assert near(shown[2], render_overlay(many.frames[2], many.saliency[2].numpy()))
    assert "2 more: .show(clip=3) and on" in html
    assert "more" not in make(B=3)._repr_html_()


def test_a_map_without_colour_says_so() -> None:
    one = make(T=1)
    one.saliency = torch.zeros_like(one.saliency)
    html = one._repr_html_()
    assert "no colour: the map is constant" in html
    assert near(videos(html)[0], render_overlay(one.frames[0], one.saliency[0].numpy()))


def test_large_videos_are_shrunk_in_a_notebook() -> None:
    one = make(T=14)
    one.display = np.random.default_rng(0).integers(0, 256, (1, 14, 600, 700, 3), np.uint8)
    html = one._repr_html_()
    assert len(html) < 4_000_000
    assert videos(html)[0].shape == (14, 274, 320, 3)
    assert "shown smaller than it is, save_overlay writes all" in html


def test_without_an_encoder_of_h264_a_notebook_gets_webp(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise av.codec.codec.UnknownCodecError("libx264")

    monkeypatch.setattr("aosa_fast.video.writer.add_h264", missing)
    html = make()._repr_html_()
    assert "video/mp4" not in html
    (data, _) = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.n_frames == 4


def test_show_elsewhere_says_how_to_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    terminal = SimpleNamespace()  # IPython's has no kernel
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: terminal))
    both = make(B=2, target=1)
    both.show(1)
    said = capsys.readouterr().out
    assert said.startswith(f"aosa-approx: why two lines? (p = {both.probabilities[1, 1]:.3f}): save_overlay(")
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())
    both.save_overlay("overlay.mp4", clip=1)  # the call that was said
    assert 'save_overlay("overlay.mp4", clip=1)' in said
    with pytest.raises(InputError, match=r"^clip must be from 0 to 1; got 2$"):
        both.show(2)


def test_plot_has_frames_overlays_and_the_colours_in_units() -> None:
    one = make(B=2, target=2)
    figure = one.plot([3, 0], clip=1)
    *axes, bar = figure.axes
    pictures = [axis.get_images()[0].get_array() for axis in axes]
    painted = render_overlay(one.frames[1], one.saliency[1].numpy(), min_side=1)
    for picture, expected in zip(pictures, [*one.frames[1][[3, 0]], *painted[[3, 0]]], strict=True):
        np.testing.assert_array_equal(picture, expected)
    assert [axis.get_title() for axis in axes] == ["frame 3", "frame 0", "", ""]
    assert bar.get_ylabel() == "drop of the probability"
    saliency = one.saliency[1].numpy()
    limit = color_limit(saliency)
    assert bar.get_ylim() == pytest.approx((max(saliency.min(), -limit), min(saliency.max(), limit)))
    assert "why x_1$?" in figure.get_suptitle()
    with Image.open(io.BytesIO(figure._repr_png_())) as image:  # what a notebook asks for
        assert min(image.size) > 300
    assert len(one.plot().axes) == 2 * 4 + 1
    one.saliency = torch.zeros_like(one.saliency)
    plain = one.plot(1)
    assert len(plain.axes) == 2
    plain.savefig(io.BytesIO())


def test_plot_of_any_shape_can_be_drawn() -> None:
    for H, W in ((8, 400), (400, 8)):
        one = explain(make_net(3), torch.randn(1, 3, 1, H, W), stride=4)
        one.plot(16).savefig(io.BytesIO())


@pytest.mark.parametrize("frames", [0, -1, 17, [], [4], [-1], [0.5], 1.5, [[0]], "all", None])
def test_frames_that_are_not_there_are_named(frames: object) -> None:
    with pytest.raises(InputError, match=r"^frames must be how many, 1 to 16, or so many indices from 0 to 3; got "):
        make().plot(frames)


def test_plot_says_when_matplotlib_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InputError, match=r"^plot must have matplotlib.*: pip install .aosa-fast\[notebook\].$"):
        make().plot()


def test_of_a_file_overlays_are_painted_in_its_own_resolution(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    pictures = np.zeros((4, 96, 144, 3), np.uint8)
    pictures[:, :, 72:] = 200
    write_video(path, pictures)
    model = Classifier(make_net(3), make_preprocessing(crop=(48, 48)), class_names=("a", "b", "c"))
    of_file = explain(model, path, method="aosa", stride=16)
    assert of_file.frames.shape == (1, 4, 48, 48, 3)
    assert of_file.display.shape == (1, 4, 96, 96, 3)
    other = of_file.for_target(1)
    for one, name in ((of_file, "a.webp"), (other, "b.webp"), (of_file.clip(0), "c.webp")):
        one.save_overlay(tmp_path / name)
        with Image.open(tmp_path / name) as image:
            assert image.size == (288, 288)  # enlarged to 224 pixels and more; from the model's 48, it would be 240
    assert videos(of_file._repr_html_())[0].shape == (4, 288, 288, 3)
    assert of_file.plot(1).axes[0].get_images()[0].get_array().shape == (96, 96, 3)
    of_file.save(tmp_path / "kept.npz")
    assert Explanation.load(tmp_path / "kept.npz").display is None
    assert make().display is None
