"""What `explain` and `Explainer` take as a model and a clip, and what they say of what they do not take."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from aosa_fast import Explainer, Explanation, InputError, StreamingExplainer, VideoError, explain, models
from aosa_fast.config import COMMON, own_options
from aosa_fast.demo import demo_clip_path
from aosa_fast.errors import ModelWarning
from aosa_fast.options import Choices, Options
from aosa_fast.video import read_clip
from cli_runs import Run
from small_nets import make_net, make_preprocessing, make_video

MEAN, STD = (0.5,) * 3, (0.2,) * 3
PICTURES = np.random.default_rng(0).integers(0, 256, (2, 4, 32, 40, 3), dtype=np.uint8)


def same(one: Explanation, other: Explanation) -> bool:
    return torch.equal(one.saliency, other.saliency) and np.array_equal(one.frames, other.frames)


@pytest.fixture(scope="module")
def demo() -> models.Classifier:
    return models.load("demo")


@pytest.mark.parametrize("kind", ["explain", "Explainer"])
def test_one_clip_in_any_form(kind: str):
    net, pictures, video = make_net(), torch.from_numpy(PICTURES), make_video(B=2)
    options: dict[str, Any] = {"mean": MEAN, "std": STD, "stride": 16}

    def run(clip: Any) -> Explanation:
        if kind == "explain":
            return explain(net, clip, 1, **options)
        with Explainer(net, **options) as explainer:
            return explainer(clip, 1)

    turned = np.ascontiguousarray(PICTURES.swapaxes(2, 3)).swapaxes(2, 3)
    frozen = PICTURES.copy()
    frozen.flags.writeable = False
    for clips in (PICTURES, turned, frozen):
        assert same(run(clips), run(pictures))
    assert same(run(video.numpy()), run(video))
    for both, alone in ((pictures, PICTURES[0]), (pictures, pictures[0]), (video, video[0]), (video, video.numpy()[0])):
        found = run(alone)
        assert found.saliency.shape == (1, 4, 32, 40)
        assert same(found, run(both[:1]))


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """A folder of 20 frames, 40 x 32."""
    frames = np.random.default_rng(1).integers(0, 256, (20, 32, 40, 3), dtype=np.uint8)
    for place, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"img_{place:02}.png")
    return tmp_path


def test_files_are_read_as_the_command_line_reads_them(film: Path, tmp_path: Path, aosa: Run):
    own = make_preprocessing(4, stride=3, crop=(24, 24), size=28)
    net = make_net()
    frames = read_clip(film, 20, start=0).frames
    for given, places in (({}, [5, 8, 11, 14]), ({"start": 0.2}, [5, 8, 11, 14]), ({"start": 2}, [2, 5, 8, 11])):
        found = explain(net, film, 1, preprocessing=own, stride=8, **given)
        assert found.metadata["source"]["frame_indices"] == places
        assert found.frames.shape == (1, 4, 24, 24, 3)
        assert same(found, explain(net, own.crop_frames(frames[places]), 1, mean=own.mean, std=own.std, stride=8))
    in_the_middle = explain(net, frames, 1, preprocessing=own, stride=8)
    for name in (str(film), film / "img_*.png"):
        assert same(explain(models.Classifier(net, own), name, 1, stride=8), in_the_middle)
    out = tmp_path / "out"
    clip = str(demo_clip_path())
    assert aosa("explain", clip, "--out", out, "--start", "0s").returncode == 0
    found, written = explain("demo", clip, start=0.0), Explanation.load(out / "explanation.npz")
    assert same(found, written)
    ours, its = found.metadata["source"], written.metadata["source"]
    assert its == ours | {"model": "demo"}


def test_a_spec_and_a_preprocessing_serve_the_explainers_too(demo: models.Classifier):
    clip = demo_clip_path()
    with Explainer("demo") as explainer:
        assert same(explainer(clip, ["pred"])[0], explain(demo, clip, config=explainer.config))
    net, own = make_net(), make_preprocessing(4, crop=(24, 24))
    with Explainer(net, preprocessing=own, stride=8) as explainer:
        explainer.warmup(clip)
        found = explainer(clip, 1, start=3)
        assert same(found, explain(models.Classifier(net, own), clip, 1, config=explainer.config, start=3))
    with StreamingExplainer("demo") as stream:
        assert stream.hop == 8


ROWS = torch.from_numpy(PICTURES)
REAL = make_video()
PICTURE_RULE = r"^video must be \(B, T, H, W, 3\) uint8 pictures or .*, nothing empty; got "
# What is given, the error, and what its one line says after the rule.
BAD: dict[str, tuple[Any, type[Exception], str]] = {
    "BTCHW": (REAL.transpose(1, 2), InputError, r", which looks like \(B, T, C, H, W\): give video.transpose\(1, 2\)$"),
    "TCHW": (REAL[0].transpose(0, 1), InputError, r" \(4, 3, 32, 40\), .*\(T, C, H, W\): give video.transpose\(0, 1"),
    "BTCHW array": (REAL.transpose(1, 2).numpy(), InputError, r"got float32 .*: give numpy.moveaxis\(video, 1, 2\)$"),
    "BTCHW half": (REAL.transpose(1, 2).half(), InputError, r"got torch.float16 .*: give video.transpose\(1, 2\)$"),
    "BTCHW bytes": (ROWS.movedim(-1, 2), InputError, r" \(B, T, C, H, W\): give video.movedim\(2, 4\)$"),
    "TCHW bytes": (PICTURES[0].transpose(0, 3, 1, 2), InputError, r": give numpy.moveaxis\(video, 1, 3\)$"),
    "BCTHW bytes": (ROWS.movedim(-1, 1), InputError, r" \(B, C, T, H, W\): give video.movedim\(1, 4\)$"),
    "shares": (ROWS.float() / 255, TypeError, r"; if it is pictures in \[0, 1\], give \(video \* 255\).round\(\).to\("),
    "shares array": (PICTURES[0] / 255, TypeError, r"float64 \(4, 32, 40, 3\); .*round\(\).astype\(\"uint8\"\)$"),
    "levels": (ROWS.double(), TypeError, r"; if it is pictures in \[0, 255\], give video.round\(\).to\(torch.uint8\)$"),
    "int64": (ROWS.long(), TypeError, r"torch.int64 .*; if it is pictures in 0..255, give video.to\(torch.uint8\)"),
    "normalised last": (ROWS.float() - 99, InputError, r" \(B, T, H, W, C\): give video.movedim\(4, 1\)$"),
    "RGBA": (np.zeros((4, 32, 40, 4), np.uint8), InputError, r"\(4, 32, 40, 4\); of RGBA give video\[..., :3\]$"),
    "grey": (PICTURES[0, ..., 0], InputError, r"got uint8 \(4, 32, 40\)$"),
    "float64": (REAL.double(), TypeError, r"got torch.float64 .*; if it is a normalised clip, give video.to\(torch.fl"),
    "int32": (REAL.int(), TypeError, r"got torch.int32 \(1, 3, 4, 32, 40\)$"),
    "no clips": (REAL[:0], InputError, r"got torch.float32 \(0, 3, 4, 32, 40\)$"),
    "no frames": (PICTURES[0, :0], InputError, r"got uint8 \(0, 32, 40, 3\)$"),
    "list": ([PICTURES[0, 0]], TypeError, r"^video must be a path, a NumPy array or a torch.Tensor; got list; give"),
    "nothing": (None, TypeError, r"^video must be a path, a NumPy array or a torch.Tensor; got NoneType$"),
    "no mean": (ROWS, InputError, r"^video of uint8 .* come with mean and std .*; got none: explain\(model, video, me"),
    "NaN": (REAL.index_fill(3, torch.tensor(5), torch.nan), InputError, r"^video must be finite; got NaN or infinity$"),
    "infinite": (REAL / 0, InputError, r"^video must be finite; got NaN or infinity$"),
    "elsewhere": (REAL.to("meta"), InputError, r"^video must be on a CPU or a CUDA device; got meta$"),
    "a network's file": (__file__, InputError, r"^video=\S+.py must come with .*, explain\(model, '\S+.py', preproces"),
    "no such file": ("a.mp4", VideoError, r"^a.mp4: must exist; there is no such file or folder$"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_what_is_wrong_is_said_with_the_call_that_works(kind: str):
    video, error, message = BAD[kind]
    with pytest.raises(error, match=message) as caught:
        explain(make_net(), video, 1)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    with Explainer(make_net()) as explainer, pytest.raises(error, match=message):
        explainer(video, 1)


def test_pixels_in_place_of_a_normalised_clip_are_told():
    with pytest.warns(ModelWarning, match=r"^video has values from 0 to 255, like pixels .* with mean and std$"):
        explain(make_net(), ROWS.movedim(-1, 1).float(), 1, score="logit")


def test_other_numbers_of_channels_stay_possible():
    for channels, frames in ((6, 3), (16, 3), (3, 3), (1, 3)):
        net = nn.Sequential(nn.Conv3d(channels, 2, 1), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        video = torch.randn(1, channels, frames, 20, 24)
        assert explain(net, video, 0, stride=8).saliency.shape == (1, frames, 20, 24)
    with pytest.raises(InputError, match=r"looks like \(B, T, C, H, W\)"):
        explain(lambda x: x.mean((2, 3, 4)), torch.zeros(1, 5, 3, 20, 24), 0)
    assert explain(lambda x: x.mean((2, 3, 4)), torch.randn(1, 4, 3, 20, 24), 0).saliency.shape == (1, 3, 20, 24)


def test_files_and_arguments_that_do_not_go_together(demo: models.Classifier, tmp_path: Path):
    for model, path in ((demo, "nothing.mp4"), (demo, str(tmp_path)), (demo, tmp_path / "*.png")):
        with pytest.raises(VideoError, match=f"^{path}: must".replace("*", r"\*")) as caught:
            explain(model, path)
        assert "\n" not in str(caught.value)
    for arguments, message in (
        ({"video": REAL, "start": 2.5}, r"^start must be left out unless video is a file: .*; got 2.5$"),
        ({"video": demo_clip_path(), "start": -1.0}, r'^start must be "center", a frame number .*; got -1.0$'),
        ({"video": demo_clip_path(), "frames": PICTURES}, r"^frames must be left out where video is a file"),
        ({"video": PICTURES, "model": "dem"}, r"^model must be one of .*; got dem \(did you mean demo"),
    ):
        with pytest.raises(InputError, match=message):
            explain(**{"model": demo, **arguments})


@contextmanager
def logged(caplog: pytest.LogCaptureFixture, level: int) -> Iterator[list[str]]:
    caplog.clear()
    lines: list[str] = []
    with caplog.at_level(level, logger="aosa_fast"):
        yield lines
    lines += [record.getMessage() for record in caplog.records if record.name.startswith("aosa_fast")]


def test_the_log_says_what_was_read_applied_and_chosen(caplog: pytest.LogCaptureFixture, film: Path):
    own = make_preprocessing(4, stride=3, crop=(24, 24), size=28)
    with logged(caplog, logging.INFO) as lines:
        explain(make_net(), film, 1, preprocessing=own, method="grad-cam")
    assert lines[0].startswith("read 4 of 20 frames of ")
    assert "every 3 from frame 5 (0.20 s) on, by images; resized from 40x32 pixels: 24x24 (short side 28" in lines[0]
    assert lines[1:] == [
        "normalised by mean [0.5, 0.5, 0.5] and std [0.2, 0.2, 0.2]",
        "grad-cam takes layer 1 of Sequential, (1, 8, 4, 8, 8)",
    ]
    with logged(caplog, logging.DEBUG) as lines:
        explain(make_net(), make_video(), 1, method="aosa", route="as-is", batch_size=2, stride=16)
    assert lines == ["route as-is on cpu, batches of up to 2 clips"]
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("aosa_fast").handlers)


def test_options_are_those_of_config():
    options = COMMON | own_options()
    hints = get_type_hints(Choices, localns={"Tensor": Tensor})
    assert hints.keys() == options.keys()
    assert options.keys() - get_type_hints(Options, localns={"Tensor": Tensor}).keys() == {"flow"}
    for name, option in options.items():
        kinds = get_args(hints[name]) or (hints[name],)
        literals = tuple(text for kind in kinds for text in (get_args(kind) or (kind,)) if isinstance(text, str))
        assert literals == option.choices, name
        assert (type(None) in kinds) == option.open, name
        if not option.choices and not option.several:
            assert option.kind in kinds, name


def test_help_names_every_option_with_its_default():
    text = " ".join((explain.__doc__ or "").split())
    for name, option in (COMMON | own_options()).items():
        if name != "flow":
            assert f"{name}={option.default!r}: " in text
    assert "stride=8: Distance of the anchors in the first frame, pixels." in text
    assert "by nearness" in text
    assert "--" not in text


class PerFrame(nn.Module):
    """2-D convolutions, frame by frame."""

    def __init__(self, time_first: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3, 2, 1)
        self.stage = nn.Sequential(nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 4, 1)
        self.time_first = time_first

    def forward(self, video: Tensor) -> Tensor:
        frames = video.permute((2, 0, 1, 3, 4) if self.time_first else (0, 2, 1, 3, 4))
        places = self.stage(self.stem(frames.flatten(0, 1))).mean((2, 3), keepdim=True)
        rows = self.head(places).unflatten(0, frames.shape[:2]).flatten(2)
        return rows.mean(0 if self.time_first else 1)


class Residual(nn.Module):
    """A last stage with a branch beside its convolutions, a shared activation, and a convolution as its head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.relu = nn.ReLU()
        self.stem = nn.Conv3d(3, 6, 3, 2, 1)
        self.block = Block(self.relu)
        self.head = nn.Conv3d(8, 4, 1)

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.block(self.relu(self.stem(video))).mean((2, 3, 4), keepdim=True)).flatten(1)


class Block(nn.Module):
    def __init__(self, relu: nn.Module) -> None:
        super().__init__()
        self.relu, self.conv, self.aside = relu, nn.Conv3d(6, 8, 3, 1, 1), nn.Conv3d(6, 8, 1)

    def forward(self, video: Tensor) -> Tensor:
        return self.relu(self.conv(video) + self.aside(video))


class Patches(nn.Module):
    """A transformer: its convolution makes tokens, which hold the places after it."""

    def __init__(self, flat: bool = True) -> None:
        super().__init__()
        self.flat = flat
        self.patches = nn.Conv3d(3, 8, (2, 8, 8), (2, 8, 8))
        self.blocks = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, video: Tensor) -> Tensor:
        tokens = self.patches(video).movedim(1, -1)
        return self.head(self.blocks(tokens.flatten(1, 3) if self.flat else tokens).flatten(1, -2).mean(1))


class Turning(nn.Module):
    """Its stage has the channels last inside, and what follows has as many places once more."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stage = Stage()
        self.pools = nn.Sequential(nn.MaxPool3d(2), nn.AdaptiveAvgPool3d((4, 8, 10)))
        self.head = nn.Linear(8, 4)

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.pools(self.stage(video)).mean((2, 3, 4)))


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv3d(3, 8, (1, 4, 4), (1, 4, 4)), nn.LayerNorm(8)

    def forward(self, video: Tensor) -> Tensor:
        return self.norm(self.conv(video).movedim(1, -1)).movedim(-1, 1)


OWN = {"stage of 2-D": PerFrame(), "block of 3-D": Residual(), "stage that turns": Turning()}


@pytest.mark.parametrize(("network", "layer"), [(net, name.split()[0]) for name, net in OWN.items()], ids=OWN)
def test_grad_cam_finds_the_last_stage_of_a_network_of_ones_own(network: nn.Module, layer: str):
    video = make_video(B=2)
    found = explain(network.eval(), video, 1, method="grad-cam")
    assert torch.equal(found.saliency, explain(network, video, 1, method="grad-cam", layer=layer).saliency)
    assert found.saliency.amax((1, 2, 3)).min() > 0
    for i in (0, 1):
        alone = explain(network, video[i], 1, method="grad-cam").saliency
        torch.testing.assert_close(found.saliency[i : i + 1], alone)


def test_frames_in_the_batch_are_told_apart_in_either_order():
    video = make_video(B=2)
    first, last = (explain(PerFrame(order).eval(), video, 1, method="grad-cam").saliency for order in (True, False))
    torch.testing.assert_close(first, last)
    frame = explain(PerFrame().eval(), video[:1, :, 2:3], 1, method="grad-cam", cam_weights="global").saliency
    row = last[:1, 2:3]  # the mean over frames divides the slope by their number
    torch.testing.assert_close(4 * row, frame)


def test_grad_cam_lists_layers_where_it_cannot_tell():
    for flat in (True, False):
        with pytest.raises(InputError, match=r"^layer must be given for grad-cam with Patches, .* are patches$"):
            explain(Patches(flat).eval(), make_video(), 1, method="grad-cam")
    assert explain(Patches().eval(), make_video(), 1, method="grad-cam", layer="patches").saliency.max() > 0
