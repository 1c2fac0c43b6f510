"""Weights from the net: only when asked for, whole or not at all, and in one line where they cannot be had."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import torchvision
import transformers
from foreign_packages import installed
from hubs import REVISION, Hub, serving
from huggingface_hub import constants
from tiny_transformers import save, tiny_clips, tiny_network

from aosa_fast.demo import demo_clip_path
from aosa_fast.errors import InputError
from aosa_fast.models import load
from cli_runs import Run, one_line_error

SPEC = "hf:me/tiny"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with nothing on it, and empty caches here."""
    folder, cache = tmp_path / "published", str(tmp_path / "cache")
    folder.mkdir()
    with serving(folder) as server:
        # For the processes of an audit, and for this one, which has read them already.
        for name, value in {"HF_ENDPOINT": server.url, "HF_HUB_CACHE": cache, "NO_PROXY": "127.0.0.1"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        pages = constants.HUGGINGFACE_CO_URL_TEMPLATE.partition("/{")
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "".join((server.url, *pages[1:])))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", cache)
        huggingface_hub.close_session()
        yield server
    huggingface_hub.close_session()


def publish(hub: Hub) -> torch.nn.Module:
    network = tiny_network("videomae")
    save(network, hub.folder)
    transformers.VideoMAEImageProcessorPil(image_mean=[0.1, 0.2, 0.3]).save_pretrained(hub.folder)
    return network


def refusal(spec: str) -> str:
    with pytest.raises(InputError) as caught:
        load(spec, download=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    video = tiny_clips("videomae")
    with torch.no_grad():
        return torch.equal(one(video), other(video))


def test_a_model_of_hugging_face_is_fetched_when_asked_for_and_only_then(hub: Hub):
    network = publish(hub)
    (hub.folder / "tf_model.h5").write_bytes(b"what is not needed")
    with pytest.raises(
        InputError, match=r"download it from .*, or give --download, in Python load\(.*, download=True\)"
    ):
        load(SPEC)
    assert hub.asked == []
    loaded = load(SPEC, download=True)
    assert loaded.preprocessing.mean == (0.1, 0.2, 0.3)
    assert same(loaded.network, network)
    assert not any("tf_model" in path for path in hub.asked)
    hub.asked.clear()
    load(SPEC)
    load(SPEC, download=True)
    with pytest.raises(InputError, match="must be a folder, or a model in the cache"):
        load("hf:me/other")  # what was allowed was one call
    assert hub.asked == []


def test_weights_of_the_older_kind_are_fetched_where_there_are_no_others(hub: Hub):
    network = publish(hub)
    (hub.folder / "model.safetensors").unlink()
    torch.save(network.model.state_dict(), hub.folder / "pytorch_model.bin")
    assert same(load(SPEC, download=True).network, network)
    hub.asked.clear()
    load(SPEC)
    assert hub.asked == []


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (401, "GatedRepo", r"got no access: accept its terms there, and log in \(hf auth login\)$"),
        (403, "GatedRepo", "got no access: accept its terms there"),
        (401, "RepoNotFound", "got no such model, or one that needs a login"),
        (404, "RepoNotFound", "got no such model, or one that needs a login"),
        (500, "", "500 Internal Server Error"),
    ],
)
def test_what_hugging_face_refuses(status: int, code: str, said: str, hub: Hub):
    publish(hub)
    hub.refused = status, {"X-Error-Code": code} if code else {}
    with pytest.raises(InputError, match=rf"^model=hf:me/tiny must be fetched from {hub.url}/me/tiny; .*{said}"):
        load(SPEC, download=True)
    assert "\n" not in refusal(SPEC)
    hub.refused = None
    load(SPEC, download=True)


def test_without_a_net(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    assert "alphanumeric" in refusal("hf:no such/model")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in refusal(SPEC)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.shutdown()
    hub.server_close()
    assert refusal(SPEC).endswith("Connection refused")


def test_a_cache_that_cannot_be_written_is_named(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    publish(hub)
    (tmp_path / "cache").write_text("no folder")
    assert re.search(r"; got (Not a directory|File exists): .*/cache", refusal(SPEC))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    assert re.search(r"; got (Not a directory|File exists): .*/cache", refusal("torchvision:s3d"))


def test_a_model_that_breaks_off_is_none_and_is_fetched_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    network = publish(hub)
    hub.cut = {"model.safetensors"}
    monkeypatch.setattr(time, "sleep", lambda _: None)  # before each of five tries
    assert "closed connection" in refusal(SPEC)
    assert not [*(tmp_path / "cache").rglob("*.incomplete")]
    with pytest.raises(InputError, match="download it"):
        load(SPEC)
    hub.cut = set()
    assert same(load(SPEC, download=True).network, network)


def test_a_damaged_index_of_weights_is_named(hub: Hub):
    network = publish(hub)
    network.model.save_pretrained(hub.folder, max_shard_size="20KB")
    (hub.folder / "model.safetensors").unlink()
    (hub.folder / "model.safetensors.index.json").write_text('{"weight_map": ["a"]}')
    assert "model.safetensors.index.json: must be an index of weights" in refusal(SPEC)


@pytest.mark.parametrize("gone", ["model-00002-of-00002.safetensors", "preprocessor_config.json"])
def test_what_other_tools_left_out_of_the_cache_is_fetched(gone: str, hub: Hub, tmp_path: Path):
    network = publish(hub)
    network.model.save_pretrained(hub.folder, max_shard_size="20KB")
    (hub.folder / "model.safetensors").unlink()
    home = tmp_path / "cache" / "models--me--tiny"
    shutil.copytree(hub.folder, home / "snapshots" / REVISION)
    (home / "snapshots" / REVISION / gone).unlink()
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(REVISION)
    loaded = load(SPEC, download=True)
    assert hub.asked[-1].endswith(gone)
    assert loaded.preprocessing.mean == (0.1, 0.2, 0.3)
    assert same(loaded.network, network)


def test_what_is_in_the_cache_is_taken_where_nothing_more_can_be_had(hub: Hub):
    network = publish(hub)
    (hub.folder / "preprocessor_config.json").unlink()
    load(SPEC, download=True)
    hub.shutdown()
    hub.server_close()
    assert same(load(SPEC, download=True).network, network)


def test_weights_of_torchvision(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    theirs, kept = torchvision.models.get_model("s3d").eval(), tmp_path / "torch" / "hub" / "checkpoints"
    torch.save(theirs.state_dict(), hub.folder / "s3d.pth")
    digest = hashlib.sha256((hub.folder / "s3d.pth").read_bytes()).hexdigest()
    name = f"s3d-{digest[:8]}.pth"
    (hub.folder / "s3d.pth").rename(hub.folder / name)
    entry = torchvision.models.video.S3D_Weights.DEFAULT.value
    spec = "torchvision:s3d"
    monkeypatch.setattr(entry, "url", f"{hub.url}/s3d-01234567.pth")
    assert "got HTTP Error 404" in refusal(spec)
    (hub.folder / "s3d-01234567.pth").write_bytes(b"others")
    assert "got invalid hash value" in refusal(spec)
    assert [*kept.iterdir()] == []
    hub.asked.clear()
    monkeypatch.setattr(entry, "url", f"{hub.url}/{name}")
    with pytest.raises(InputError, match=f"download them from {hub.url}/{name}, or give --download, in Python load"):
        load(spec)
    assert hub.asked == []
    loaded = load(spec, download=True).network
    assert [path.name for path in kept.iterdir()] == [name]
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in loaded.state_dict().items())
    load(f"{spec}:KINETICS400_V1")
    assert hub.asked == [f"/{name}"]


def test_weights_of_pytorchvideo_that_are_cut_off_do_not_stay(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as in its own tests
        theirs = pytest.importorskip("pytorchvideo.models.hub.x3d")
    torch.save({"model_state": theirs.x3d_xs().state_dict()}, hub.folder / "X3D_XS.pyth")
    monkeypatch.setitem(theirs.checkpoint_paths, "x3d_xs", f"{hub.url}/X3D_XS.pyth")
    hub.cut = {"X3D_XS.pyth"}
    said = refusal("pytorchvideo:x3d_xs")  # a name without a hash
    assert said.startswith(f"model=pytorchvideo:x3d_xs must be fetched from {hub.url}/X3D_XS.pyth; got ")
    assert [*(tmp_path / "torch" / "hub" / "checkpoints").iterdir()] == []
    hub.cut = set()
    load("pytorchvideo:x3d_xs", download=True)
    load("pytorchvideo:x3d_xs")


MINE = """
from aosa_fast.models import load
from aosa_fast.models.downloads import downloads_allowed
from aosa_fast.models.registry import ModelFamily

def make(spec, rest):
    asked.append(downloads_allowed())
    return load("demo")

asked = []
FAMILY = ModelFamily("mine", "mine:NAME", "Mine.", "others_models:make")
"""


def test_families_of_other_packages_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    points = "[aosa_fast.models]\nmine = others_models:FAMILY\n"
    with installed(tmp_path, monkeypatch, "others_models", MINE, points):
        load("mine:a")
        load("mine:a", download=True)
        load("mine:a")
        assert sys.modules["others_models"].asked == [False, True, False]


def test_on_the_command_line(hub: Hub, aosa: Run, tmp_path: Path):
    publish(hub)
    command = ("explain", demo_clip_path(), "--model", SPEC, "--frame-stride", 2, "--out", tmp_path / "out")
    assert "or give --download" in one_line_error(aosa(*command))
    assert hub.asked == []
    done = aosa(*command, "--download")
    assert done.returncode == 0, done.stderr
    assert aosa(*command).returncode == 0
    assert "or give --download" in one_line_error(aosa(*command[:3], "hf:me/other", *command[4:]))


def test_processes_of_an_audit_fetch_the_model(hub: Hub, aosa: Run, tmp_path: Path):
    publish(hub)
    with (tmp_path / "clips.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], [demo_clip_path(), 0]])
    command: tuple[Any, ...] = ("audit", tmp_path / "clips.csv", "--model", SPEC, "--out", tmp_path / "audit")
    assert "or give --download" in one_line_error(aosa(*command))
    assert hub.asked == []
    done = aosa(*command, "--download")
    assert done.returncode == 0, done.stderr
    assert "1: 1 ok" in done.stdout
