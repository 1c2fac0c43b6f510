from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from tiny_transformers import FAMILIES, save, tiny_clips, tiny_config, tiny_network
from transformers import utils

from aosa_fast import explain
from aosa_fast.errors import InputError
from aosa_fast.models.huggingface import HuggingFace, load_huggingface

PT = {"format": "pt"}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_folder_gives_the_model_that_was_saved(family: str, tmp_path: Path, no_network: None, capfd: Any):
    network = tiny_network(family)
    folder = save(network, tmp_path / "saved")
    capfd.readouterr()
    bars, verbosity = utils.logging.is_progress_bar_enabled(), utils.logging.get_verbosity()
    loaded = load_huggingface(f"hf:{folder}", str(folder))
    assert capfd.readouterr() == ("", "")
    assert (utils.logging.is_progress_bar_enabled(), utils.logging.get_verbosity()) == (bars, verbosity)
    video = tiny_clips(family)
    with torch.no_grad():
        # Hugging Face has the frames before the channels.
        expected = network.model(**{network.model.main_input_name: video.permute(0, 2, 1, 3, 4)}).logits
        assert torch.equal(loaded.network(video), expected)
        assert expected.std() > 1e-3
        alone = loaded.network(video[1:])
    torch.testing.assert_close(alone, expected[1:], rtol=1e-5, atol=1e-6)
    assert not loaded.network.training
    assert loaded.class_names is None
    assert loaded.anatomy is not None
    assert loaded.preprocessing.frames == video.shape[2]


def test_threads_that_load_at_once_leave_transformers_as_it_was(tmp_path: Path):
    folder = save(tiny_network("vivit"), tmp_path / "saved")
    bars, verbosity = utils.logging.is_progress_bar_enabled(), utils.logging.get_verbosity()
    for _ in range(2):
        threads = [threading.Thread(target=load_huggingface, args=("hf:x", str(folder))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (utils.logging.is_progress_bar_enabled(), utils.logging.get_verbosity()) == (bars, verbosity)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_reaches_every_voxel(family: str):
    network, video = tiny_network(family), tiny_clips(family).requires_grad_()
    network(video)[:, 2].sum().backward()
    assert torch.isfinite(video.grad).all()
    assert (video.grad != 0).float().mean() > 0.99


def test_class_names_are_those_of_the_config(tmp_path: Path):
    names = {0: "wave", 1: "jump", 2: "sit", 3: "run", 4: "eat", 5: "box"}
    folder = save(tiny_network("vivit", id2label=names, label2id={v: k for k, v in names.items()}), tmp_path / "a")
    assert load_huggingface("hf:x", str(folder)).class_names == ("wave", "jump", "sit", "run", "eat", "box")


def test_defaults_without_a_preprocessor_file(tmp_path: Path):
    made = {family: load_huggingface("hf:x", str(save(tiny_network(family), tmp_path / family))) for family in FAMILIES}
    assert [made[family].preprocessing.stride for family in FAMILIES] == [32, 32, 4, 2, 2]
    assert made["timesformer"].preprocessing.mean == (0.45, 0.45, 0.45)
    assert made["videomae"].preprocessing.crop == (24, 40)
    assert made["videomae"].preprocessing.mean == (0.485, 0.456, 0.406)
    assert made["vivit"].preprocessing.std == (0.5, 0.5, 0.5)
    assert made["vjepa2"].preprocessing.mean == (0.485, 0.456, 0.406)
    assert (made["vjepa2"].preprocessing.size, made["vjepa2"].preprocessing.crop) == (18, (16, 16))
    many = save(tiny_network("timesformer", num_frames=16), tmp_path / "hr")
    assert load_huggingface("hf:x", str(many)).preprocessing.stride == 16
    few = save(tiny_network("vjepa2", frames_per_clip=16), tmp_path / "ssv2")
    (few / "video_preprocessor_config.json").write_text("{}")
    assert load_huggingface("hf:x", str(few)).preprocessing.stride == 4
    assert load_huggingface("hf:x", str(few)).preprocessing.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("family", "processor"),
    [
        ("timesformer", {"image_mean": [0.45, 0.4, 0.35], "image_std": [0.2, 0.21, 0.22]}),
        ("videomae", {}),
        ("videomae", {"do_normalize": False}),
        ("videomae", {"do_rescale": False, "image_mean": [99.0, 98.0, 97.0], "image_std": [31.0, 32.0, 33.0]}),
        ("videomae", {"rescale_factor": 1 / 128}),
        ("vivit", {}),
        ("vivit", {"do_normalize": False}),
        ("vivit", {"offset": False, "rescale_factor": 1 / 255, "image_std": [0.2, 0.3, 0.4]}),
        ("vjepa2", {}),
        ("vjepa2", {"image_mean": [0.45, 0.4, 0.35], "image_std": [0.2, 0.21, 0.22]}),
    ],
    ids=str,
)
def test_input_is_what_the_models_own_processor_gives(family: str, processor: dict[str, Any], tmp_path: Path):
    folder = save(tiny_network(family), tmp_path / "model")
    kind = {"vivit": transformers.VivitImageProcessor, "vjepa2": transformers.VJEPA2VideoProcessor}.get(
        family, transformers.VideoMAEImageProcessorPil
    )
    sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 24, "width": 40}}
    if family == "timesformer":
        sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    if family == "vjepa2":  # whose processor takes the short side from the crop
        sizes = {"size": {"shortest_edge": 18}, "crop_size": {"height": 16, "width": 16}}
    theirs = kind(**sizes, **processor)
    theirs.save_pretrained(folder)
    mine = load_huggingface("hf:x", str(folder)).preprocessing
    assert mine.size == sizes["size"]["shortest_edge"]
    assert mine.crop == (sizes["crop_size"]["height"], sizes["crop_size"]["width"])
    frames = np.random.default_rng(0).integers(0, 256, (4, 40, 40, 3), dtype=np.uint8)
    if family == "timesformer":
        frames = frames[:, :32, :32]
    if family == "vjepa2":
        frames = frames[:, :18, :30]
    made = theirs(list(frames), return_tensors="np")
    expected = torch.as_tensor(np.asarray(made[theirs.model_input_names[0]]))
    ours = mine.to_input(mine.crop_frames(frames))
    torch.testing.assert_close(ours, expected.transpose(1, 2), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"image_std": "black"},
        {"image_std": [0.5, 0.5]},
        {"image_mean": ["a", "b", "c"]},
        {"rescale_factor": "x"},
        {"rescale_factor": 0},
        {"size": {"height": "tall"}},
    ],
    ids=str,
)
def test_a_wrong_preprocessor_file(wrong: dict[str, Any], tmp_path: Path):
    folder = save(tiny_network("videomae"), tmp_path / "model")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": 0.5, **wrong}))
    with pytest.raises(InputError, match=r"preprocessor_config.json: must be a preprocessor's file"):
        load_huggingface("hf:x", str(folder))


@pytest.mark.parametrize("size", [56, {"shortest_edge": 56}, {"height": 56, "width": 56}], ids=str)
def test_all_ways_to_write_the_size(size: Any, tmp_path: Path):
    folder = save(tiny_network("videomae"), tmp_path / "model")
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": size}))
    p = load_huggingface("hf:x", str(folder)).preprocessing
    assert (p.size, p.resize) == (56, "short")


@pytest.mark.parametrize("wanted", [{}, {"do_center_crop": False}, {"do_center_crop": True}], ids=str)
def test_height_and_width_squeeze_the_whole_frame(wanted: dict[str, Any], tmp_path: Path):
    folder = save(tiny_network("videomae"), tmp_path / "model")
    theirs = transformers.VideoMAEImageProcessorPil(
        size={"height": 24, "width": 40}, crop_size={"height": 24, "width": 40}, **wanted
    )
    theirs.save_pretrained(folder)
    mine = load_huggingface("hf:x", str(folder)).preprocessing
    assert (mine.resize, mine.crop) == ("exact", (24, 40))
    # Smooth, since the two average otherwise; a crop by the short side would be a quarter of the frame off.
    y, x = np.mgrid[:48, :48] / 48
    frames = np.repeat(np.stack([255 * x, 255 * y, 127 * (x + y)], -1)[None], 2, 0).round().astype(np.uint8)
    expected = torch.as_tensor(np.asarray(theirs(list(frames), return_tensors="np")["pixel_values"]))
    ours = mine.to_input(mine.crop_frames(frames))
    assert (ours - expected.transpose(1, 2)).abs().max() < 0.06


def test_a_preprocessors_mean_of_pixels_up_to_255_is_refused(tmp_path: Path):
    folder = save(tiny_network("videomae"), tmp_path / "model")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [123.7, 116.3, 103.5]}))
    with pytest.raises(InputError, match=r"preprocessor_config.json: mean must be of pixels in \[0, 1\]"):
        load_huggingface("hf:x", str(folder))


def test_a_model_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"https://huggingface.co/me/tiny .*hf:FOLDER"):
        load_huggingface("hf:me/tiny", "me/tiny")
    home = tmp_path / "models--me--tiny"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("0123abc")
    save(tiny_network("vivit"), home / "snapshots" / "0123abc")
    assert load_huggingface("hf:me/tiny", "me/tiny").preprocessing.stride == 2
    (home / "snapshots" / "0123abc" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"must hold a vivit model \(download it again from https://huggingface.co/"):
        load_huggingface("hf:me/tiny", "me/tiny")


@pytest.mark.parametrize("name", ["nobody/no-such-model", "a/b/c", "no such/model", "/nowhere/at/all"])
def test_what_is_not_there_says_where_it_comes_from(name: str, no_network: None):
    with pytest.raises(InputError, match="must be a folder, or a model in the cache") as caught:
        load_huggingface(f"hf:{name}", name)
    assert f"https://huggingface.co/{name}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folders_that_are_no_such_model(tmp_path: Path):
    with pytest.raises(InputError, match=r"must hold config.json"):
        load_huggingface("hf:x", str(tmp_path))
    config = tmp_path / "config.json"
    config.write_text("{")
    with pytest.raises(InputError, match=r"config.json: must be a JSON file"):
        load_huggingface("hf:x", str(tmp_path))
    config.write_text("[]")
    with pytest.raises(InputError, match=r"config.json: must hold an object; got list"):
        load_huggingface("hf:x", str(tmp_path))
    config.write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match=r"must be one of TimeSformer, VideoMAE, ViViT, V-JEPA 2 .*; got bert"):
        load_huggingface("hf:x", str(tmp_path))
    tiny_config("vivit").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="must hold a vivit model; got Error no file named"):
        load_huggingface("hf:x", str(tmp_path))
    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).write_bytes(b"junk")
        with pytest.raises(InputError, match="must hold a vivit model"):
            load_huggingface("hf:x", str(tmp_path))
    shown = json.loads(config.read_text())
    config.write_text(json.dumps({**shown, "num_frames": "eight"}))
    with pytest.raises(InputError, match="must hold a vivit model"):
        load_huggingface("hf:x", str(tmp_path))


def test_weights_of_half_precision_become_single(tmp_path: Path):
    network = tiny_network("vivit")
    folder = save(HuggingFace(network.model.half()), tmp_path / "half")
    loaded = load_huggingface("hf:x", str(folder)).network
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def test_a_body_without_its_classifier_is_refused(tmp_path: Path):
    network = tiny_network("videomae")
    folder = save(HuggingFace(network.model.videomae), tmp_path / "body")
    with pytest.raises(InputError, match=r"must hold all weights of a video classifier; it lacks classifier\.bias"):
        load_huggingface("hf:x", str(folder))


def test_weights_of_other_sizes_than_the_configs_are_refused(tmp_path: Path):
    folder = save(tiny_network("videomae"), tmp_path / "saved")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {0: "a", 1: "b"}}))
    said = r"sizes in config\.json, whose id2label has the classes; classifier\.bias is \(6,\), and \(2,\) there$"
    with pytest.raises(InputError, match=said):
        load_huggingface("hf:x", str(folder))
    names = dict(enumerate("abcde")) | {7: "f"}
    (folder / "config.json").write_text(json.dumps({**config, "id2label": names}))
    with pytest.raises(InputError, match=r"config\.json: class_names must have every index from 0 to 5 once"):
        load_huggingface("hf:x", str(folder))


def test_weights_that_the_network_has_no_place_for_are_refused(tmp_path: Path):
    deep = save(tiny_network("videomae", num_hidden_layers=3), tmp_path / "deep")
    shutil.copy(save(tiny_network("videomae"), tmp_path / "shallow") / "config.json", deep)
    with pytest.raises(InputError, match=r"classifier in config.json alone; it has also videomae\.encoder\.layer\.2\."):
        load_huggingface("hf:x", str(deep))


@pytest.mark.parametrize(
    ("family", "given"),
    [
        ("videomae", ["decoder.norm.weight", "encoder_to_decoder.weight", "mask_token"]),
        ("vivit", ["vivit.pooler.dense.weight"]),
        ("vjepa2", ["vjepa2.predictor.layer.9.norm1.weight", "vjepa2.predictor.embeddings.mask_tokens"]),
    ],
    ids=str,
)
def test_weights_of_what_only_training_uses_may_be_there(family: str, given: list[str], tmp_path: Path):
    network, video = tiny_network(family), tiny_clips(family)
    folder = save(network, tmp_path / "saved")
    others = {name: torch.ones(3) for name in given}
    save_file(network.model.state_dict() | others, folder / "model.safetensors", PT)
    with torch.no_grad():
        assert torch.equal(load_huggingface("hf:x", str(folder)).network(video), network(video))


def test_a_predictor_may_be_missing_and_is_the_same_each_time(tmp_path: Path):
    network, video = tiny_network("vjepa2"), tiny_clips("vjepa2")
    folder, state = save(network, tmp_path / "saved"), network.model.state_dict()
    kept = {name: value for name, value in state.items() if ".predictor." not in name}
    assert 0 < len(kept) < len(state)
    save_file(kept, folder / "model.safetensors", PT)
    drawn = torch.get_rng_state()
    one, other = (load_huggingface("hf:x", str(folder)).network for _ in range(2))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())
    with torch.no_grad():
        assert torch.equal(one(video), network(video))


@pytest.mark.parametrize("name", ["pooler.self_attention_layers.1.layer_norm1.weight", "vjepa2.encoder.x", "decoders"])
def test_weights_that_an_answer_may_depend_on_are_refused_by_their_names(name: str, tmp_path: Path):
    network = tiny_network("vjepa2")
    folder = save(network, tmp_path / "saved")
    save_file(network.model.state_dict() | {name: torch.ones(3)}, folder / "model.safetensors", PT)
    with pytest.raises(InputError, match=f"it has also {name}$"):
        load_huggingface("hf:x", str(folder))


def original_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """VideoMAE's weights as its own repository names them."""
    named: dict[str, torch.Tensor] = {}
    for block in range(2):
        here, there = f"videomae.encoder.layer.{block}.", f"blocks.{block}."
        qkv = [state[f"{here}attention.attention.{part}.weight"] for part in ("query", "key", "value")]
        named[f"{there}attn.qkv.weight"] = torch.cat(qkv)
        named[f"{there}attn.q_bias"] = state[f"{here}attention.attention.query.bias"]
        named[f"{there}attn.v_bias"] = state[f"{here}attention.attention.value.bias"]
        for kind in ("weight", "bias"):
            named[f"{there}attn.proj.{kind}"] = state[f"{here}attention.output.dense.{kind}"]
            named[f"{there}norm1.{kind}"] = state[f"{here}layernorm_before.{kind}"]
            named[f"{there}norm2.{kind}"] = state[f"{here}layernorm_after.{kind}"]
            named[f"{there}mlp.fc1.{kind}"] = state[f"{here}intermediate.dense.{kind}"]
            named[f"{there}mlp.fc2.{kind}"] = state[f"{here}output.dense.{kind}"]
    for kind in ("weight", "bias"):
        named[f"patch_embed.proj.{kind}"] = state[f"videomae.embeddings.patch_embeddings.projection.{kind}"]
        named[f"head.{kind}"] = state[f"classifier.{kind}"]
        named.update({name: value for name, value in state.items() if name == f"fc_norm.{kind}"})
        named.update({f"norm.{kind}": value for name, value in state.items() if name == f"videomae.layernorm.{kind}"})
    assert sum(value.numel() for value in named.values()) == sum(value.numel() for value in state.values())
    return named


@pytest.mark.parametrize("pooling", [True, False], ids=["mean", "first"])
@pytest.mark.parametrize("names", ["transformers 5", "transformers 4", "original", "of DeepSpeed"])
def test_videomae_is_the_same_by_all_names_that_its_weights_have_had(names: str, pooling: bool, tmp_path: Path):
    network = tiny_network("videomae", use_mean_pooling=pooling)
    with torch.no_grad():
        for parameter in network.parameters():  # norms, too, are to be told from each other
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder, state = save(network, tmp_path / "saved"), network.model.state_dict()
    (folder / "model.safetensors").unlink()
    if names == "transformers 5":
        torch.save(state, folder / "pytorch_model.bin")
    elif names == "transformers 4":
        older = {"query.bias": "q_bias", "value.bias": "v_bias"}
        renamed = {name: older.get(".".join(name.split(".")[-2:])) for name in state}
        state = {
            f"{name.rpartition('.attention.')[0]}.attention.{renamed[name]}" if renamed[name] else name: value
            for name, value in state.items()
        }
        assert "videomae.encoder.layer.1.attention.attention.v_bias" in state
        torch.save(state, folder / "pytorch_model.bin")
    else:
        inside = {"original": "model", "of DeepSpeed": "module"}[names]
        torch.save({inside: original_names(state), "epoch": 7}, folder / "checkpoint.pth")
        (folder / "training_args.bin").write_bytes(b"what a Trainer leaves")
    loaded, video = load_huggingface("hf:x", str(folder)).network, tiny_clips("videomae")
    with torch.no_grad():
        assert torch.equal(loaded(video), network(video))


def test_videomaes_own_checkpoints_that_are_no_classifiers_are_refused(tmp_path: Path):
    network = tiny_network("videomae")
    folder = save(network, tmp_path / "saved")
    (folder / "model.safetensors").unlink()
    state = original_names(network.model.state_dict())
    torch.save({f"encoder.{name}": value for name, value in state.items()}, folder / "pretrained.pth")
    with pytest.raises(InputError, match=r"must hold all weights of a video classifier; it lacks classifier\.bias"):
        load_huggingface("hf:x", str(folder))
    torch.save({**state, "head.weight": state["head.weight"][:4]}, folder / "pretrained.pth")
    with pytest.raises(InputError, match=r"classifier\.weight is \(4, 16\), and \(6, 16\) there$"):
        load_huggingface("hf:x", str(folder))
    (folder / "other.pth").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"must hold one checkpoint FILE\.pth; got other\.pth, pretrained\.pth$"):
        load_huggingface("hf:x", str(folder))
    (folder / "other.pth").rename(folder / "pretrained.pth")
    with pytest.raises(InputError, match=r"pretrained\.pth: must be a PyTorch checkpoint"):
        load_huggingface("hf:x", str(folder))


def test_attention_without_time_is_refused(tmp_path: Path):
    folder = save(tiny_network("timesformer", attention_type="space_only"), tmp_path / "space")
    with pytest.raises(InputError, match="attention_type must be divided_space_time or joint_space_time"):
        load_huggingface("hf:x", str(folder))


@pytest.mark.parametrize(
    ("family", "shape", "wanted"),
    [
        ("timesformer", (1, 3, 6, 48, 32), r"\(B, C, 3, 48, 32\)"),  # transformers takes twice the frames for rows
        ("timesformer", (1, 3, 3, 48, 40), r"\(B, C, 3, 48, 32\)"),
        ("timesformer", (1, 3, 3, 44, 32), r"\(B, C, 3, 32, 32\)"),
        ("videomae", (1, 3, 8, 40, 24), r"\(B, C, 8, 24, 40\)"),
        ("vjepa2", (1, 3, 5, 16, 16), r"\(B, C, 6, 16, 16\)"),
        ("vjepa2", (1, 3, 6, 32, 8), r"\(B, C, 6, 16, 16\)"),
        ("vivit", (1, 3, 4, 24, 40), r"\(B, C, 8, 24, 40\)"),
        ("vivit", (3, 8, 24, 40), r"\(B, C, 8, 24, 40\)"),
    ],
)
def test_clips_of_another_size_are_refused(family: str, shape: tuple[int, ...], wanted: str):
    with pytest.raises(InputError, match=f"video must be {wanted} for this model; got"):
        tiny_network(family)(torch.zeros(shape))


def test_vjepa2_takes_more_frames_and_fewer():
    network = tiny_network("vjepa2")
    more = torch.randn(1, 3, 8, 16, 16)
    with torch.no_grad():
        for video in (more, more[:, :, :4]):
            expected = network.model(pixel_values_videos=video.transpose(1, 2)).logits
            assert torch.equal(network(video), expected)


@pytest.mark.parametrize(
    ("choices", "likeness"),
    [
        ({"method": "aosa-path"}, 0.8),
        ({"method": "aosa-approx", "relu": "none"}, 0.5),
        ({"method": "aosa-dual", "detail": "tube"}, 0.3),
    ],
    ids=lambda value: str(value),
)
def test_vjepa2_is_explained_like_the_exact_scores(choices: dict[str, str], likeness: float):
    network, video = tiny_network("vjepa2"), tiny_clips("vjepa2")
    exact, found = (
        explain(network, video, 2, score="logit", stride=4, box=4, **chosen).saliency
        for chosen in ({"method": "aosa"}, choices)
    )
    assert found.shape == (2, 6, 16, 16)
    same = torch.corrcoef(torch.stack([exact.flatten(), found.flatten()]))
    assert likeness < float(same[0, 1]) < 1 - 1e-3


def test_a_folder_named_kernels_is_not_taken_for_the_package(tmp_path: Path):
    folder = save(tiny_network("vivit"), tmp_path / "model")
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").write_text("raise ImportError('not the package')")
    program = (
        "import sys; from aosa_fast.models.huggingface import load_huggingface;"
        f"print(type(load_huggingface('hf:x', {str(folder)!r}).network).__name__, 'kernels' in sys.modules)"
    )
    # With -c, the working directory is the first place where modules are looked for.
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("HuggingFace False\n", "")
