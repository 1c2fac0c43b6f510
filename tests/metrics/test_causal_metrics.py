from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aosa_fast import Difference, InputError
from aosa_fast.errors import ModelWarning
from aosa_fast.methods.fills import blur
from aosa_fast.metrics import PROTOCOLS, Protocol, causal_metrics, deletion, insertion, overall

T, H, W = 3, 5, 7  # 105 voxels: 28 does not divide them


class Planted(nn.Module):
    """Its first logit is the weighted sum of the clip, its second 0: every probability is known in closed form."""

    def __init__(self, C: int = 2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(0.4 * torch.randn(C, T, H, W, generator=generator))

    def forward(self, video: Tensor) -> Tensor:
        first = (video * self.weight).flatten(1).sum(1)
        return torch.stack([first, torch.zeros_like(first)], 1)


def make_video(B: int = 1, C: int = 2) -> Tensor:
    return torch.randn(B, C, T, H, W, generator=torch.Generator().manual_seed(0))


def make_map(B: int = 1, seed: int = 1) -> Tensor:
    return torch.randn(B, T, H, W, generator=torch.Generator().manual_seed(seed))


def worked_curve(model: Planted, clip: Tensor, start: np.ndarray, end: np.ndarray, saliency: Tensor) -> np.ndarray:
    """The probabilities of the first class, voxel by voxel in float64, without any of the code under test."""
    weight = model.weight.detach().double().numpy()
    values = saliency.double().numpy().ravel().tolist()
    order = sorted(range(len(values)), key=lambda q: (-values[q], q))
    now, probabilities = start.astype(np.float64).copy(), []
    for k in range(29):
        for q in order[: round(k * len(order) / 28)]:
            where = (slice(None), *np.unravel_index(q, (T, H, W)))
            now[where] = end[where]
        probabilities.append(1 / (1 + np.exp(-(weight * now).sum())))
    return np.array(probabilities)


@pytest.mark.parametrize("protocol", ["aosa-28", "aosa-28-fill"])
def test_curves_and_areas_in_closed_form(protocol):
    model, video, saliency = Planted(), make_video(2), make_map(2)
    found = overall(model, video, saliency, 0, protocol=protocol)
    for b in range(2):
        clip = video[b].numpy()
        begin = blur(video)[b].numpy() if protocol == "aosa-28" else np.zeros_like(clip)
        falling = worked_curve(model, video[b], clip, np.zeros_like(clip), saliency[b])
        rising = worked_curve(model, video[b], begin, clip, saliency[b])
        np.testing.assert_allclose(found.deletion.scores[b], falling, atol=2e-6)
        np.testing.assert_allclose(found.insertion.scores[b], rising, atol=2e-6)
        areas = [sum((c[k] + c[k + 1]) / 2 for k in range(28)) / 28 for c in (rising, falling)]
        assert float(found.insertion.area[b]) == pytest.approx(areas[0], abs=2e-6)
        assert float(found.deletion.area[b]) == pytest.approx(areas[1], abs=2e-6)
        assert float(found.area[b]) == pytest.approx(areas[0] - areas[1], abs=4e-6)
        assert np.ptp(falling) > 0.2  # else nothing would be shown


def test_area_of_a_straight_line_by_hand():
    # Each of 56 equal voxels is worth 1/56 of a logit; steps of two: the score falls from 1 to 0 in a straight line.
    video = torch.full((1, 1, 2, 4, 7), 1 / 56)
    line = Protocol(name="line", score="logit")
    curve = deletion(lambda x: x.flatten(1).sum(1, keepdim=True), video, torch.zeros(2, 4, 7), 0, protocol=line)
    torch.testing.assert_close(curve.scores[0], torch.linspace(1, 0, 29))
    torch.testing.assert_close(curve.fractions, torch.linspace(0, 1, 29))
    assert float(curve.area) == pytest.approx(0.5, abs=1e-6)
    # The score of one voxel that goes at the first of 28 steps: half a step is left under the curve.
    video = torch.zeros(1, 1, 2, 2, 7)
    video[0, 0, 1, 0, 3] = 1
    curve = deletion(lambda x: x.flatten(1).sum(1, keepdim=True), video, video[0], 0, protocol=line)
    assert curve.scores[0].tolist() == [1.0] + 28 * [0.0]
    assert float(curve.area) == pytest.approx(0.5 / 28)


def test_a_perfect_map_and_its_negative_bracket_all_others():
    model, video = Planted(), make_video()
    gain = (model.weight * video[0]).sum(0).detach()
    gain_over_blur = (model.weight * (video - blur(video))[0]).sum(0).detach()
    others = [make_map(seed=seed) for seed in range(6)] + [torch.zeros(1, T, H, W), video[:, 0].abs()]
    falling = [deletion(model, video, m, 0).scores[0] for m in (gain, -gain, *others)]
    rising = [insertion(model, video, m, 0).scores[0] for m in (gain_over_blur, -gain_over_blur, *others)]
    from_fill = [insertion(model, video, m, 0, protocol="aosa-28-fill").scores[0] for m in (gain, -gain, *others)]
    for curves, sign in ((falling, -1), (rising, 1), (from_fill, 1)):
        best, worst = sign * curves[0], sign * curves[1]
        for curve in curves[2:]:
            assert (sign * curve <= best + 1e-6).all()
            assert (sign * curve >= worst - 1e-6).all()
        assert float((best - worst).mean()) > 0.2
    areas = [float(overall(model, video, m, 0, protocol="aosa-28-fill").area) for m in (gain, -gain, *others)]
    assert areas[0] > max(areas[2:]) > min(areas[2:]) > areas[1]


def test_a_large_map_of_ties_keeps_the_order_of_the_index():
    # Sorts that are not stable keep the order of a few values, and lose that of many.
    video = torch.ones(1, 1, 4, 40, 41)
    weight = torch.arange(video.numel(), dtype=torch.float64)
    line = Protocol(name="line", score="logit")
    saliency = np.zeros((4, 40, 41))
    saliency[2], saliency[1] = 1, -0.0  # which is equal to 0
    curve = deletion(lambda x: (x.flatten(1) @ weight.float())[:, None] / 1e6, video, saliency, 0, protocol=line)
    order = [*range(2 * 1640, 3 * 1640), *range(2 * 1640), *range(3 * 1640, 4 * 1640)]
    left = [float(weight.sum() - weight[order[: round(k * 6560 / 28)]].sum()) / 1e6 for k in range(29)]
    np.testing.assert_allclose(curve.scores[0], left, atol=1e-4)


def test_batches_are_their_clips_and_batch_sizes_do_not_matter():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.BatchNorm3d(4), nn.ReLU(), nn.AdaptiveAvgPool3d(1))
    net = nn.Sequential(net, nn.Flatten(), nn.Dropout(), nn.Linear(4, 3))  # in training mode
    video, saliency, target = make_video(3), make_map(3), torch.tensor([2, 0, 1])
    whole = overall(net, video, saliency, target, batch_size=64)
    for size in (1, 3):
        other = overall(net, video, saliency, target, batch_size=size)
        torch.testing.assert_close(other.deletion.scores, whole.deletion.scores, atol=1e-6, rtol=0)
        torch.testing.assert_close(other.insertion.scores, whole.insertion.scores, atol=1e-6, rtol=0)
    for b in range(3):
        one = overall(net, video[b : b + 1], saliency[b], int(target[b]))
        torch.testing.assert_close(one.deletion.scores[0], whole.deletion.scores[b], atol=1e-6, rtol=0)
        torch.testing.assert_close(one.insertion.scores[0], whole.insertion.scores[b], atol=1e-6, rtol=0)
        assert one.metadata["target_index"] == [int(target[b])]
    assert net.training
    assert net[0][1].num_batches_tracked == 0


def test_a_map_from_anywhere():
    model, video = Planted(), make_video()
    saliency = make_map().mul(4).round()[0]
    expected = deletion(model, video, saliency, 0).scores
    values = saliency.numpy()
    padded = np.zeros((T, H, 2 * W))
    padded[:, :, ::2] = values
    for other in (
        saliency.double(),
        saliency.half(),
        saliency.to(torch.bfloat16),
        saliency.to(torch.int8),
        saliency.clone().requires_grad_(),
        values.astype(">f8"),
        values.astype(np.int16),
        values[::-1].copy()[::-1],
        padded[:, :, ::2],
        values[None],
    ):
        assert torch.equal(deletion(model, video, other, 0).scores, expected)
    assert torch.equal(
        deletion(model, video, values > 0, 0).scores, deletion(model, video, (values > 0) * 1.0, 0).scores
    )


def test_targets_as_for_explain():
    model, video, saliency = Planted(), make_video(2), make_map(2)
    predicted = model(video).argmax(1)
    expected = deletion(model, video, saliency, predicted)
    assert torch.equal(deletion(model, video, saliency, "pred").scores, expected.scores)
    named = deletion(model, video, saliency, "b", class_names=("a", "b"))
    assert torch.equal(named.scores, deletion(model, video, saliency, 1).scores)
    torch.testing.assert_close(named.scores, 1 - deletion(model, video, saliency, 0).scores)
    difference = deletion(model, video, saliency, Difference(0, 1))
    torch.testing.assert_close(difference.scores, 1 - 2 * named.scores)


def test_deletion_is_shared_and_everything_is_evaluated_once():
    counts = []

    def model(x: Tensor) -> Tensor:
        counts.append(len(x))
        return x.flatten(1)[:, :2]  # a view of the input

    video, saliency = make_video(2), make_map(2)
    deletion(model, video, saliency, 0)
    counts.clear()  # of what a new model is asked first
    found = causal_metrics(model, video, saliency, 0, batch_size=5)
    assert sum(counts) == 2 * (1 + 3 * 28)
    counts.clear()
    causal_metrics(model, video, saliency, 0)
    assert max(counts) > 1
    for name, both in found.items():
        assert torch.equal(both.deletion.scores, deletion(model, video, saliency, 0, protocol=name).scores)
        assert torch.equal(both.insertion.scores, insertion(model, video, saliency, 0, protocol=name).scores)
        assert both.deletion.metadata["name"] == both.metadata["name"] == name
    # Another score is another deletion.
    logit = Protocol(name="logits", score="logit", insertion="fill")
    found = causal_metrics(model, video, saliency, 0, protocols=("aosa-28", logit))
    assert not torch.equal(found["aosa-28"].deletion.scores, found["logits"].deletion.scores)


def test_a_model_whose_answers_depend_on_the_batch_gets_single_clips():
    def curve(batch_size: int) -> tuple[Tensor, list[int]]:
        counts = []

        def model(x: Tensor) -> Tensor:
            counts.append(len(x))
            return len(x) * x.flatten(1)[:, :2]

        return deletion(model, make_video(2), make_map(2), 0, batch_size=batch_size).scores, counts

    alone, counts = curve(1)
    assert set(counts) == {1}
    with pytest.warns(ModelWarning, match="batch"):
        other, counts = curve(2)
    assert torch.equal(other, alone)
    assert counts.count(2) == 1  # the question alone


def test_what_the_model_is_given():
    seen = []

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(2, 2, 1).to(torch.float64).to(memory_format=torch.channels_last_3d)

        def forward(self, x: Tensor) -> Tensor:
            seen.append((x.dtype, x.shape))
            out = self.conv(x).mean((2, 3, 4))
            x.zero_()  # it may do with its input what it likes
            return out

    video, saliency = make_video(2), make_map(2)
    before = video.clone()
    both = overall(Wide(), video, saliency, 1, batch_size=7)
    assert torch.equal(video, before)
    assert {dtype for dtype, _ in seen} == {torch.float64}
    assert max(shape[0] for _, shape in seen) == 7
    assert both.deletion.scores.dtype == both.area.dtype == torch.float32
    assert both.deletion.scores.shape == (2, 29)
    assert not both.deletion.scores.requires_grad
    half = overall(Planted(), video, saliency, 1, dtype="bfloat16")
    torch.testing.assert_close(half.area, overall(Planted(), video, saliency, 1).area, atol=0.02, rtol=0)


def test_every_choice_is_in_the_metadata():
    curve = insertion(Planted(), make_video(), make_map(), 1)
    chosen = dataclasses.asdict(PROTOCOLS["aosa-28"])
    assert {name: curve.metadata[name] for name in chosen} == chosen
    assert chosen | {"steps": 28, "order": "clip", "ties": "index", "deletion": "zero", "insertion": "blur"} == chosen
    assert (curve.metadata["blur_kernel"], curve.metadata["blur_sigma"]) == (11, 5.0)
    assert "blur_kernel" not in deletion(Planted(), make_video(), make_map(), 1, protocol="aosa-28-fill").metadata
    assert curve.metadata["curve"] == "insertion"
    assert curve.metadata["voxels"] == 105
    assert curve.metadata["probability"] == pytest.approx(Planted()(make_video()).softmax(1)[:, 1].tolist())
    fractions = [round(k * 105 / 28) / 105 for k in range(29)]
    assert curve.fractions.tolist() == pytest.approx(fractions, abs=1e-7)


def test_fewer_voxels_than_steps():
    video = torch.ones(1, 1, 1, 1, 3)
    line = Protocol(name="line", score="logit")
    curve = deletion(lambda x: x.flatten(1).sum(1, keepdim=True), video, torch.zeros(1, 1, 3), 0, protocol=line)
    assert curve.scores[0].tolist() == [3.0 - round(3 * k / 28) for k in range(29)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"saliency": make_map().index_fill(2, torch.tensor(1), torch.nan)}, r"^saliency must be finite; got NaN"),
        ({"saliency": make_map() / 0}, r"^saliency must be finite; got NaN or infinity$"),
        (
            {"saliency": torch.zeros(T, W, H)},
            r"size \(B, T, H, W\) = \(1, 3, 5, 7\), or be interpolated to it first; got \(3, 7, 5\)$",
        ),
        ({"saliency": make_map(2)}, r"^saliency must have the clip's size .*; got \(2, 3, 5, 7\)$"),
        ({"saliency": make_video()}, r"\(1, 2, 3, 5, 7\); it must hold one value per voxel, so sum over the channels"),
        ({"saliency": make_map().numpy().tolist()}, r"^saliency must be a tensor or a NumPy array; got list$"),
        ({"saliency": make_map().to(torch.complex64)}, r"^saliency must be real numbers; got torch.complex64$"),
        ({"saliency": make_map().numpy().astype("U4")}, r"^saliency must be real numbers; got <U4$"),
        ({"video": make_video()[0]}, r"^video must have shape \(B, C, T, H, W\), nothing empty; got \(2, 3, 5, 7\)$"),
        (
            {"video": make_video().index_fill(2, torch.tensor(1), torch.nan)},
            r"^video must be finite; got NaN or infinity$",
        ),
        ({"target": 2}, r"^target must be a class from 0 to 1; got 2$"),
        ({"protocol": "rise"}, r"^protocol must be one of aosa-28, aosa-28-fill, or a Protocol; got rise$"),
        ({"batch_size": -1}, r"^batch_size must be at least 0; got -1$"),
        ({"dtype": "half"}, r"^dtype must be one of float32, tf32, bfloat16; got half$"),
        ({"class_names": ("a",)}, r"^class_names must be one per class, 2; got 1$"),
    ],
    ids=str,
)
def test_bad_arguments_get_one_line(change, message):
    arguments = {"video": make_video(), "saliency": make_map(), "target": 0, **change}
    for function in (deletion, insertion, overall):
        with pytest.raises(InputError, match=message) as caught:
            function(Planted(), **arguments)
        assert "\n" not in str(caught.value)


def test_bad_protocols_and_videos_of_another_type():
    with pytest.raises(InputError, match=r"^insertion must be one of blur, fill; got white$"):
        Protocol(name="x", insertion="white")
    for steps in (0, True, 2.0):
        with pytest.raises(InputError, match=rf"^steps must be a whole number of at least 1; got {steps}$"):
            Protocol(name="x", steps=steps)
    assert Protocol(name="x", steps=1).voxels_changed(9) == [0, 9]
    for protocols, names in (((), "none"), (("aosa-28", PROTOCOLS["aosa-28"]), "aosa-28, aosa-28")):
        with pytest.raises(InputError, match=rf"^protocols must be at least one, each of another name; got {names}$"):
            causal_metrics(Planted(), make_video(), make_map(), 0, protocols=protocols)
    with pytest.raises(TypeError, match=r"^video must be a float32 tensor, .*; got torch.float64$"):
        deletion(Planted(), make_video().double(), make_map(), 0)
    with pytest.raises(TypeError, match=r"^video must be a float32 tensor, .*; got ndarray$"):
        deletion(Planted(), make_video().numpy(), make_map(), 0)
