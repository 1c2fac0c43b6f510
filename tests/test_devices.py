"""Pictures as input, the model's precision, and what happens when a GPU's memory runs out: all that needs no GPU."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import small_nets
from aosa_fast import Config, InputError, explain
from aosa_fast.inference.batching import FIRST, MOST, BatchSize
from aosa_fast.inference.call import input_format
from aosa_fast.inference.precision import check_device, precision, resolve_device
from aosa_fast.kernels.pictures import normalize_frames
from aosa_fast.kernels.registry import on_cuda

MEAN, STD = [0.4, 0.45, 0.5], [0.2, 0.25, 0.3]
CPU = torch.device("cpu")


def make_pictures(B: int = 2) -> Tensor:
    return torch.randint(0, 256, (B, 4, 32, 40, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


make_net = partial(small_nets.make_net, 5)


class Cramped(nn.Module):
    """Runs out of memory above `room` clips, as torch says it on a GPU."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.net, self.room = make_net(), room
        self.batches: list[int] = []

    def forward(self, video: Tensor) -> Tensor:
        self.batches.append(len(video))
        if len(video) > self.room:
            video.zero_()  # what was in the batch is lost, and must be made anew
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")
        return self.net(video)


@pytest.mark.parametrize("method", ["aosa-approx", "aosa", "aosa-path"])
def test_pictures_are_normalised_as_the_model_expects(method: str) -> None:
    pictures = make_pictures()
    video = normalize_frames(pictures, torch.tensor(MEAN), torch.tensor(STD))
    options = {"method": method, "stride": 16, "mean": MEAN, "std": STD}
    result = explain(make_net(), pictures, 2, **options)
    expected = explain(make_net(), video, 2, frames=pictures, **options)
    assert result.saliency.abs().max() > 0
    assert torch.equal(result.saliency, expected.saliency)
    np.testing.assert_array_equal(result.frames, pictures.numpy())


def test_pictures_need_no_frames_beside_them() -> None:
    with pytest.raises(InputError, match=r"^frames must be left out where video holds the pictures$"):
        explain(make_net(), make_pictures(), frames=make_pictures(), mean=MEAN, std=STD)


@pytest.mark.parametrize("method", ["aosa-approx", "aosa", "aosa-path"])
def test_a_batch_that_does_not_fit_is_halved_and_nothing_changes(method: str) -> None:
    video = normalize_frames(make_pictures(3), torch.tensor(MEAN), torch.tensor(STD))
    options = {"method": method, "stride": 12, "batch_size": 8, "flow": torch.zeros(3, 3, 32, 40, 2)}
    cramped, done = Cramped(2), []
    result = explain(cramped, video, 2, progress=lambda *at: done.append(at), **options)
    assert max(cramped.batches) > 2
    assert max(cramped.batches[-3:]) <= 2  # it has learned
    assert result.saliency.abs().max() > 0
    torch.testing.assert_close(result.saliency, explain(Cramped(99), video, 2, **options).saliency)
    assert done == sorted(set(done))
    assert done[-1][0] == done[-1][1]


def test_random_fills_stay_the_same_when_a_batch_is_halved() -> None:
    video = normalize_frames(make_pictures(2), torch.tensor(MEAN), torch.tensor(STD))
    options = {"method": "aosa", "fill": "conditional", "samples": 3, "stride": 16, "batch_size": 8}
    result, expected = explain(Cramped(2), video, 2, **options), explain(Cramped(99), video, 2, **options)
    torch.testing.assert_close(result.class_score_samples, expected.class_score_samples)


def test_one_clip_that_does_not_fit_is_said_in_one_line() -> None:
    video = normalize_frames(make_pictures(2), torch.tensor(MEAN), torch.tensor(STD))
    for method in ("aosa-approx", "aosa"):
        with pytest.raises(
            InputError, match=r"^video must fit the GPU's memory, one clip at a time; CUDA out of memory$"
        ):
            explain(Cramped(0), video, 2, method=method)


def test_batches_cover_every_clip_once() -> None:
    for wanted, count in ((1, 3), (4, 9), (5, 5), (8, 3)):
        seen: list[int] = []
        BatchSize(wanted, CPU).run(count, lambda begin, end, seen=seen: seen.extend(range(begin, end)))
        assert seen == list(range(count))
    BatchSize(3, CPU).run(0, lambda *_: pytest.fail("nothing to do"))


@pytest.mark.parametrize(
    ("free", "clips"), [(2 * 40 * 10**6, 40), (10**5, 1), (10**12, MOST)], ids=["some", "little", "much"]
)
def test_on_a_gpu_the_first_batch_shows_how_many_fit(monkeypatch: pytest.MonkeyPatch, free: int, clips: int) -> None:
    allocated = iter([5 * 10**6, 13 * 10**6])  # 8 clips, 1 MB each
    stats = lambda _: {"allocated_bytes.all.allocated": next(allocated)}  # noqa: E731
    monkeypatch.setattr(torch.cuda, "memory_stats", stats)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: free // 2)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 0)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free // 2, 0))
    batches, sizes = BatchSize(0, torch.device("cuda")), []
    batches.run(500, lambda begin, end: sizes.append(end - begin))
    assert sizes[0] == FIRST
    assert sizes[1] == clips
    assert sum(sizes) == 500


def test_bfloat16_is_near_and_leaves_torch_as_it_was() -> None:
    pictures, net = make_pictures(1), make_net()
    seen = []
    net[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    options = {"method": "aosa", "stride": 12, "score": "logit", "mean": MEAN, "std": STD}
    exact, low = (explain(net, pictures, 2, dtype=dtype, **options) for dtype in ("float32", "bfloat16"))
    assert set(seen) == {torch.float32, torch.bfloat16}
    assert low.saliency.dtype == torch.float32
    assert not torch.equal(exact.saliency, low.saliency)
    assert float((exact.saliency - low.saliency).abs().max()) < 0.2 * float(exact.saliency.abs().max())
    assert not torch.is_autocast_enabled("cpu")
    assert input_format(net.half(), "bfloat16")[0] == torch.float16


def switches() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def tf32() -> Iterator[Callable[[], tuple[bool, bool]]]:
    before = switches()
    yield switches
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def test_tf32_is_set_for_the_time_being(tf32: Callable[[], tuple[bool, bool]]) -> None:
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True
    for dtype, inside in ((None, (False, True)), ("tf32", (True, True)), ("float32", (False, False))):
        with precision(dtype, torch.device("cuda")):
            assert tf32() == inside
        assert tf32() == (False, True)
    with pytest.raises(ZeroDivisionError), precision("tf32", torch.device("cuda")):
        raise ZeroDivisionError
    assert tf32() == (False, True)


def test_what_a_device_cannot_do_is_said() -> None:
    with pytest.raises(InputError, match=r"^dtype=tf32 must run on a CUDA device; got cpu$"):
        explain(make_net(), make_pictures(), mean=MEAN, std=STD, dtype="tf32")
    with pytest.raises(InputError, match=r"^dtype must be one of float32, tf32, bfloat16; got float16$"):
        Config(dtype="float16")
    with pytest.raises(InputError, match=r"^model must be on a CPU or a CUDA device; got meta$"):
        explain(make_net().to("meta"), make_pictures(), mean=MEAN, std=STD)


def test_devices_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu") == CPU
    for available, found in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert resolve_device("auto") == torch.device(found)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    for name, message in (
        ("cuda:2", r"^device=cuda:2 must be a GPU that torch can use; it finds 2$"),
        ("gpu", r"^device must be auto, cpu, cuda or cuda:N; got gpu$"),
    ):
        with pytest.raises(InputError, match=message):
            resolve_device(name)


def test_a_model_on_a_gpu_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    gpu = torch.device("cuda", 1)
    with pytest.raises(InputError, match=r"^model must come with Triton on a GPU: pip install triton .*; got cuda:1$"):
        check_device(gpu, CPU)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == CPU
    monkeypatch.undo()
    check_device(gpu, CPU)
    with pytest.raises(InputError, match=r"^compat=authors2022 must run with the model on the CPU, .*; got cuda:1$"):
        check_device(gpu, CPU, None, "authors2022")


def test_without_triton_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(
        RuntimeError, match=r"^CUDA tensors must come with Triton, .*: pip install triton; got "
    ) as caught:
        on_cuda("field", "aosa_fast.kernels.field_triton")(torch.zeros(1))
    assert "\n" not in str(caught.value)
