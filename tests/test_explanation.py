from __future__ import annotations

import av
import numpy as np
import pytest
import torch
from PIL import Image

from aosa_fast import Difference, Explanation, InputError, explain
from small_nets import make_net

TENSORS = (
    "saliency", "scores", "tracks", "alive", "boxes", "members", "coverage", "clean_scores", "class_score_samples",
    "relevance", "exact", "estimate_error",
)  # fmt: skip
CHOICES = {
    "exact": {"method": "aosa"},
    "random fills": {"method": "aosa", "fill": "conditional", "samples": 2},
    "first order": {"check": 2, "box": (9, 13), "min_motion": 1.5, "partners_rule": "motion-aware"},
    "path": {"method": "aosa-path", "steps": 3},
    "own fill": {"method": "aosa", "fill": torch.arange(3.0).reshape(3, 1, 1, 1)},
    "own fill with gradient": {"method": "aosa", "fill": torch.ones(1, requires_grad=True)},
    "own fill in bfloat16": {"method": "aosa", "fill": torch.ones(1, dtype=torch.bfloat16)},
    "budget": {"method": "aosa", "budget_ms": 1e9},
    "compat": {"compat": "authors2022", "mean": [0.5], "std": [0.25]},
}


def make(B: int = 2, target: object = "pred", **options: object) -> Explanation:
    video = torch.randn(B, 3, 5, 33, 41, generator=torch.Generator().manual_seed(0))
    return explain(make_net(4), video, target, stride=16, class_names=["run", "jump", "sit", "näyttö"], **options)


def assert_same(a: Explanation, b: Explanation) -> None:
    for name in TENSORS:
        one, other = getattr(a, name), getattr(b, name)
        assert (one is None) == (other is None), name
        assert one is None or (one.dtype == other.dtype and torch.equal(one, other)), name
    np.testing.assert_array_equal(a.frames, b.frames)
    assert a.metadata == b.metadata
    assert a.class_names == b.class_names
    assert a.config.as_dict() == b.config.as_dict()
    assert torch.equal(a.target.index, b.target.index)
    assert (a.target.minus is None) == (b.target.minus is None)
    assert a.target.minus is None or torch.equal(a.target.minus, b.target.minus)


@pytest.mark.parametrize("case", CHOICES)
@pytest.mark.parametrize("target", ["pred", Difference("näyttö", torch.tensor([0, 1]))], ids=["one", "difference"])
def test_save_and_load_keep_everything(case, target, tmp_path):
    before = make(target=target, **CHOICES[case])
    before.save(tmp_path / "result.npz")
    after = Explanation.load(tmp_path / "result.npz")
    assert_same(before, after)
    assert [file.name for file in tmp_path.iterdir()] == ["result.npz"]
    if isinstance(before.config.fill, torch.Tensor):
        assert torch.equal(after.config.fill.float(), before.config.fill.detach().float())
    if before.standard_error is not None:
        assert torch.equal(before.standard_error, after.standard_error)
    if before.config.method == "aosa":
        assert_same(before.for_target("sit"), after.for_target("sit"))
    else:
        for one in (before, after):
            with pytest.raises(
                InputError, match=r"^for_target must have the class scores of method=aosa or osa; got aosa-"
            ):
                one.for_target(1)


def test_an_estimate_is_kept_with_its_errors(tmp_path):
    before = make(method="aosa", budget_ms=0)
    before.save(tmp_path / "result.npz")
    after = Explanation.load(tmp_path / "result.npz")
    assert not after.exact.any()
    assert after.standard_error.isnan().all()
    assert after.agreement.isnan().all()
    assert (after.metadata, after.config.budget_ms) == (before.metadata, 0)
    with pytest.raises(
        InputError, match=r"^for_target must have exact scores of all tubes; budget_ms=0 left 12 of 12 "
    ):
        after.for_target("sit")


def test_for_target_refuses_what_explain_refuses():
    exact = make(method="aosa")
    with pytest.raises(InputError, match=r"^target must be a class from 0 to 3; got 4$"):
        exact.for_target(4)
    with pytest.raises(InputError, match=r"^target must be an index or one of run, jump, sit, näyttö; got walk$"):
        exact.for_target("walk")


def test_an_older_file_is_replaced_whole(tmp_path):
    path = tmp_path / "result.npz"
    make(method="aosa").save(path)
    newer = make()
    newer.save(str(path))
    assert_same(newer, Explanation.load(path))


@pytest.mark.parametrize("write", ["save", "save_overlay"])
def test_a_place_that_cannot_be_written_leaves_nothing(write, tmp_path):
    result, blocked = make(B=1), tmp_path / "file"
    blocked.write_text("kept")
    suffix = ".npz" if write == "save" else ".mp4"
    with pytest.raises(InputError, match="result") as caught:
        getattr(result, write)(blocked / f"result{suffix}")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"result\.xyz: must end in "):
        getattr(result, write)(tmp_path / "result.xyz")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert blocked.read_text() == "kept"


def test_a_failure_while_writing_leaves_the_older_file(tmp_path, monkeypatch):
    result, path = make(B=1), tmp_path / "result.npz"
    result.save(path)
    before = path.read_bytes()

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(InputError, match="No space left"):
        result.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_missing_file_gets_one_line(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.npz: must be readable; got No such file or directory$"):
        Explanation.load(tmp_path / "nothing.npz")


@pytest.mark.parametrize("suffix", ["mp4", "webp", "gif", "png"])
def test_overlays_can_be_read_back(suffix, tmp_path):
    result, path = make(), tmp_path / f"overlay.{suffix}"
    result.save_overlay(path, clip=1)
    if suffix == "mp4":
        with av.open(path) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(frames) == 5
        assert all(frame.shape[0] >= 33 and frame.shape[1] >= 41 and frame.std() > 5 for frame in frames)
    else:
        with Image.open(path) as image:
            assert getattr(image, "n_frames", 1) == (1 if suffix == "png" else 5)
            assert np.asarray(image.convert("RGB")).std() > 5
    other = tmp_path / f"other.{suffix}"
    result.save_overlay(other, clip=0)
    assert other.read_bytes() != path.read_bytes()


def test_overlay_takes_other_pictures(tmp_path):
    result = make()
    result.save_overlay(tmp_path / "large.webp", frames=np.zeros((5, 330, 410, 3), dtype=np.uint8), fps=4)
    with Image.open(tmp_path / "large.webp") as image:
        assert image.size == (410, 330)


def test_overlay_refuses_a_clip_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"^clip must be .*; got 2$"):
        make().save_overlay(tmp_path / "none.mp4", clip=2)


def test_a_constant_map_shows_the_plain_frames(tmp_path):
    result, likeness = make(B=1), []
    for saliency in (torch.zeros_like(result.saliency), result.saliency):
        result.saliency = saliency
        result.save_overlay(tmp_path / "shown.webp")
        with Image.open(tmp_path / "shown.webp") as image:
            first = np.asarray(image.convert("RGB").resize((41, 33), Image.Resampling.BOX))
        likeness.append(np.corrcoef(first.ravel(), result.frames[0, 0].ravel())[0, 1])
    assert likeness[0] > 0.9 > likeness[1]


@pytest.mark.parametrize("case", CHOICES)
def test_one_clip_of_a_batch_is_a_batch_of_one(case):
    both = make(target=Difference("pred", 1), **CHOICES[case])
    one = both.clip(1)
    for name in TENSORS:
        whole, own = getattr(both, name), getattr(one, name)
        assert (whole is None) == (own is None), name
        assert own is None or torch.equal(own, whole[1:]), name
    for tensor in (one.saliency, one.tracks, one.boxes):
        assert tensor.untyped_storage().nbytes() == tensor.nbytes
    np.testing.assert_array_equal(one.frames, both.frames[1:])
    facts = make(B=1, target=Difference("pred", 1), **CHOICES[case]).metadata
    assert {name: _shape(value) for name, value in one.metadata.items()} == {
        name: _shape(value) for name, value in facts.items()
    }
    assert one.metadata["probability"] == both.metadata["probability"][1:]
    assert one.clip(0) is one
    with pytest.raises(InputError, match="clip must be from 0 to 1; got 2"):
        both.clip(2)


def _shape(value: object) -> object:
    """How many values are where."""
    if isinstance(value, dict):
        return {name: _shape(part) for name, part in value.items()}
    return len(value) if isinstance(value, list) else None
