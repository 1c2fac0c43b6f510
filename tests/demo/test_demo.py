"""The embedded classifier and clip, and the renderer that both come from."""

from __future__ import annotations

import json
import subprocess
import sys

import av
import numpy as np
import pytest
import torch

from aosa_fast.demo import (
    CLASS_NAMES,
    demo_clip_path,
    demo_truth,
    load_demo_attention,
    load_demo_network,
    render_clip,
    to_input,
)
from aosa_fast.demo import render as render_module
from aosa_fast.demo import train as train_module
from aosa_fast.demo.kinds import motion_path
from aosa_fast.demo.network import DemoNet, evaluate, hide
from aosa_fast.demo.textures import texture_bank
from aosa_fast.errors import InputError

UNSEEN = range(50_000, 50_060)
NETWORKS = {"conv": load_demo_network, "attention": load_demo_attention}


@pytest.fixture(scope="module")
def net() -> DemoNet:
    return load_demo_network()


@pytest.fixture(scope="module")
def clip_frames() -> np.ndarray:
    with av.open(str(demo_clip_path())) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_importing_demo_loads_neither_torch_nor_skimage():
    code = (
        "import sys, aosa_fast.demo as d; d.demo_truth()\n"
        "print({'torch', 'skimage', 'cv2', 'aosa_fast.demo.attention'} & set(sys.modules), d.DemoAttention.__module__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set() aosa_fast.demo.attention"


def test_the_same_seed_gives_the_same_bytes():
    first, second, other = render_clip(7), render_clip(7), render_clip(8)
    assert first.frames.tobytes() == second.frames.tobytes()
    assert first.label == second.label
    assert np.array_equal(first.boxes, second.boxes)
    assert first.frames.tobytes() != other.frames.tobytes()
    assert first.frames.shape == (16, 64, 64, 3)
    assert first.frames.dtype == np.uint8
    assert first.boxes.dtype == np.int32


@pytest.mark.parametrize("pan", [0.0, 0.15])
def test_a_scene_is_the_same_at_every_size(pan):
    for seed in range(4):
        small, large = render_clip(seed, pan=pan, noise=0), render_clip(seed, size=256, pan=pan, noise=0)
        assert small.label == large.label
        assert np.abs(large.boxes / 4 - small.boxes).max() <= 1
        shrunk = large.frames.reshape(16, 64, 4, 64, 4, 3).mean(axis=(2, 4))
        assert np.abs(shrunk - small.frames).mean() < 8  # worst of 48 clips: 5.9 grey levels


@pytest.mark.parametrize("size", [64, 100, 256])
@pytest.mark.parametrize("pan", [0.0, 0.1])
def test_boxes_hold_all_pixels_of_the_moving_object_and_little_else(size, pan):
    for seed in range(6):
        clip = render_clip(seed, size=size, noise=0, pan=pan)
        without = render_clip(seed, size=size, noise=0, pan=pan, moving=False)
        change = np.abs(clip.frames.astype(int) - without.frames).sum(axis=3)
        for t, (x0, y0, x1, y1) in enumerate(clip.boxes):
            inside = change[t, y0:y1, x0:x1]
            assert inside.sum() > 0.98 * change[t].sum()
            assert (change[t, max(y0 - 1, 0) : y1 + 1, max(x0 - 1, 0) : x1 + 1]).sum() == change[t].sum()
            assert (inside > 0).mean() > 0.25  # a triangle fills half of its box, a star less


def test_the_label_changes_the_motion_and_nothing_else():
    stills = [render_clip(3, label=k, noise=0, moving=False) for k in range(6)]
    assert all(np.array_equal(stills[0].frames, clip.frames) for clip in stills)
    assert all(np.array_equal(stills[0].static_boxes, clip.static_boxes) for clip in stills)
    assert len({clip.boxes.tobytes() for clip in stills}) == 6


def test_places_do_not_tell_the_class():
    paths = np.array([[motion_path(k, 16, np.random.default_rng(s)) for s in range(400)] for k in range(6)])
    middle = paths.mean(axis=(1, 2))
    assert np.abs(middle - 0.5).max() < 0.02
    assert paths.min() > 0.05
    assert paths.max() < 0.95
    first = paths[:, :, 0].mean(axis=1)
    assert np.abs(first - 0.5).max() < 0.25  # half of the way: starting points of left and right do differ a little


@pytest.mark.parametrize("name", NETWORKS)
def test_one_frame_does_not_tell_the_class(name):
    net = NETWORKS[name]()
    hits = []
    for seed in range(45):
        clip = render_clip(seed)
        still = np.repeat(clip.frames[8:9], 16, axis=0)
        hits.append(int(net(to_input(still)).argmax()) == clip.label)
    assert np.mean(hits) < 0.4


def test_directions_are_what_their_names_say():
    ways = {
        CLASS_NAMES[k]: path[-1] - path[0] for k in range(4) for path in [motion_path(k, 16, np.random.default_rng(0))]
    }
    assert ways["left"][0] < -0.3
    assert ways["right"][0] > 0.3
    assert ways["up"][1] < -0.3
    assert ways["down"][1] > 0.3
    for name, sign in (("clockwise", 1), ("counter-clockwise", -1)):
        path = motion_path(CLASS_NAMES.index(name), 16, np.random.default_rng(0))
        step = np.diff(path, axis=0)
        # y points down, so a positive cross product turns clockwise on the screen.
        assert (sign * (step[:-1, 0] * step[1:, 1] - step[:-1, 1] * step[1:, 0]) > 0).all()


def test_splits_come_from_different_parts_of_the_photographs():
    for left, right in zip(texture_bank("train"), texture_bank("test"), strict=True):
        assert left.shape == right.shape
        assert np.abs(left - right).mean() > 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": 6}, "label must be in 0..5; got 6"),
        ({"split": "val"}, r"split must be one of \('train', 'test'\); got 'val'"),
        ({"frames": 0}, "frames must be at least 1; got 0"),
        ({"size": 8}, "size must be at least 16; got 8"),
        ({"distractors": -1}, "distractors must be at least 0; got -1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        render_clip(0, **arguments)


def test_missing_scikit_image_names_the_extra(monkeypatch):
    texture_bank.cache_clear()
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(InputError, match=r"aosa-fast\[train\]"):
        render_clip(0)


def test_no_distractors_and_one_frame_are_allowed():
    clip = render_clip(0, distractors=0, frames=1)
    assert clip.frames.shape == (1, 64, 64, 3)
    assert clip.static_boxes.shape == (0, 1, 4)


def test_input_must_be_uint8_frames():
    with pytest.raises(InputError, match=r"frames must have shape \(T, H, W, 3\); got \(16, 64, 64\)"):
        to_input(np.zeros((16, 64, 64), np.uint8))
    with pytest.raises(TypeError, match="frames must be uint8; got float32"):
        to_input(np.zeros((16, 64, 64, 3), np.float32))


@pytest.mark.parametrize(("name", "least", "sure"), [("conv", 0.95, 0.8), ("attention", 0.9, 0.7)])
def test_the_networks_are_right_on_unseen_clips_and_not_saturated(name, least, sure):
    probabilities = evaluate(NETWORKS[name](), UNSEEN)
    assert (probabilities.argmax(axis=1) == 0).mean() >= least
    assert sure < probabilities[:, 0].mean() < 0.96
    assert probabilities.max() < 0.99


def test_the_network_is_right_on_clips_rendered_large(net):
    assert (evaluate(net, range(60_000, 60_020), size=256).argmax(axis=1) == 0).mean() >= 0.95


def test_hiding_the_object_hurts_and_hiding_a_distractor_does_not(net):
    before = evaluate(net, UNSEEN)[:, 0]
    assert (evaluate(net, UNSEEN, occlude="object")[:, 0] < 0.5 * before).mean() > 0.8
    assert (evaluate(net, UNSEEN, occlude="distractor")[:, 0] < 0.5 * before).mean() < 0.2


def test_hide_clips_boxes_to_the_frame():
    video = torch.ones(3, 2, 8, 8)
    hide(video, np.array([[-3, 2, 2, 4], [6, 6, 12, 12]]))
    assert video[0].sum() == 128 - 4 - 4
    assert video[0, 0, 2:4, 0:2].sum() == 0
    assert video[0, 1, 6:, 6:].sum() == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_are_small_and_record_how_they_were_made(name):
    recipe = train_module.RECIPES[name]
    assert recipe.weights.stat().st_size <= 3 * 2**20
    meta = json.loads(torch.load(recipe.weights, weights_only=True)["meta"])
    assert meta["accuracy"] >= 0.95
    assert meta["accuracy_256"] >= 0.95
    assert {"seed", "clips_per_step"} <= set(meta)
    assert meta["steps"] == recipe.steps
    if name == "attention":
        assert (meta["network"], meta["occlusion"], meta["spread"]) == (name, False, recipe.spread)


def test_the_embedded_clip_is_what_its_truth_says(clip_frames, net):
    truth = demo_truth()
    assert clip_frames.shape == (truth["frames"], truth["size"], truth["size"], 3) == (16, 256, 256, 3)
    assert truth["boxes"].shape == (16, 4)
    assert truth["boxes"].dtype == np.int32
    assert CLASS_NAMES[truth["label"]] == truth["class_name"]
    assert demo_clip_path().stat().st_size < 400_000
    clip = render_clip(truth["seed"], size=truth["size"])
    assert clip.label == truth["label"]
    assert np.array_equal(clip.boxes, truth["boxes"])
    assert np.abs(clip.frames.astype(int) - clip_frames).mean() < 6  # h264 drops part of the sensor noise


def test_the_embedded_clip_is_explained_by_its_object(clip_frames, net):
    truth = demo_truth()
    video = to_input(clip_frames)
    p = net(video).softmax(dim=1)[0]
    assert int(p.argmax()) == truth["label"]
    assert 0.8 < float(p.max()) < 0.99
    boxes = truth["boxes"] // 4
    hidden, elsewhere = video.clone(), video.clone()
    hide(hidden[0], boxes)
    hide(elsewhere[0], np.stack([63 - boxes[:, 2], 63 - boxes[:, 3], 63 - boxes[:, 0], 63 - boxes[:, 1]], axis=1))
    assert float(net(hidden).softmax(dim=1)[0, truth["label"]]) < 0.5 * float(p.max())
    assert float(net(elsewhere).softmax(dim=1)[0, truth["label"]]) > 0.7 * float(p.max())


def test_three_steps_of_training_write_a_loadable_file(tmp_path, capsys):
    out = tmp_path / "weights.pt"
    train_module.main(["--steps", "3", "--clips-per-step", "3", "--test-clips", "3", "--seed", "1", "--out", str(out)])
    assert "accuracy" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [out]
    logits = load_demo_network(out)(to_input(render_clip(0).frames))
    assert logits.shape == (1, 6)
    assert json.loads(torch.load(out, weights_only=True)["meta"])["steps"] == 3


def test_recipes_are_taken_where_the_command_does_not_say_otherwise(tmp_path):
    out = tmp_path / "plain.pt"
    short = ["--steps", "1", "--clips-per-step", "2", "--test-clips", "1", "--out", str(out)]
    for more, occlusion, spread in (([], True, 0.17), (["--no-occlusion", "--spread", "0.3"], False, 0.3)):
        train_module.main([*short, *more])
        meta = json.loads(torch.load(out, weights_only=True)["meta"])
        assert (meta["network"], meta["occlusion"], meta["spread"]) == ("conv", occlusion, spread)


def test_without_occlusion_training_clips_are_as_rendered():
    # The last of 10 steps: with occlusion, the first three have none either.
    batches = {}
    for occlusion in (True, False):
        config = train_module.TrainConfig(occlusion=occlusion, steps=10, clips_per_step=12)
        batches[occlusion] = train_module._batch(config, 9)
    (hidden, uneven), (shown, even) = batches[True], batches[False]
    assert torch.allclose(even.amax(1), torch.full((12,), 0.9 + 0.1 / 6))
    assert int((uneven.amax(1) < 0.5).sum()) >= 1
    grey = (shown == 0).all(1).flatten(1).float().mean(1)
    assert grey.max() < 0.01
    assert 2 <= int(((hidden == 0).all(1).flatten(1).float().mean(1) > 0.01).sum()) <= 11


def test_spread_widens_the_paths_of_training_clips(monkeypatch):
    asked = []

    def record(seed: int, *, spread: float, **options: object) -> object:
        asked.append(spread)
        return render_clip(seed, spread=spread, **options)

    monkeypatch.setattr(train_module, "render_clip", record)
    for spread, least, most in ((0.17, 0.17, 0.17), (0.1, 0.1, 0.1), (0.35, 0.17, 0.35)):
        asked.clear()
        train_module._batch(train_module.TrainConfig(occlusion=False, spread=spread, steps=1, clips_per_step=8), 0)
        assert least <= min(asked) <= max(asked) <= most
    assert max(asked) > 0.25


def test_a_bad_training_option_exits_with_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        train_module.main(["--steps", "0", "--out", str(tmp_path / "w.pt")])
    assert stop.value.code == 2
    assert "steps must be at least 1; got 0" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        train_module.main(["--network", "attention", "--kind", "colour"])
    assert stop.value.code == 2
    assert "out must be given: no network=attention is shipped for kind=colour" in capsys.readouterr().err
    with pytest.raises(InputError, match="network must be one of conv, attention, small, r2plus1d; got mlp"):
        train_module.TrainConfig("mlp")


def test_the_clip_can_be_written_again(tmp_path, capsys):
    render_module.main(["--out", str(tmp_path), "--seed", str(demo_truth()["seed"])])
    assert json.loads((tmp_path / "clip.json").read_text()) == json.loads(
        (demo_clip_path().parent / "clip.json").read_text()
    )
    assert (tmp_path / "clip.mp4").stat().st_size > 10_000
