"""The methods as attributions of Captum's: held against Captum itself, whose ablation of features is exact, too."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import pytest
import torch
from captum.attr import Attribution, FeatureAblation, NoiseTunnel
from captum.metrics import infidelity, infidelity_perturb_func_decorator, sensitivity_max
from torch import Tensor, nn

from aosa_fast import AOSA, AOSAApprox, AOSADual, AOSAPath, Difference, InputError, explain
from small_nets import make_net, make_video

KINDS = {"aosa": AOSA, "aosa-approx": AOSAApprox, "aosa-path": AOSAPath, "aosa-dual": AOSADual}
LABELS = (torch.arange(4 * 32 * 40).reshape(4, 32, 40) // 512 + 1).int()  # ten segments, of 512 voxels each


@pytest.fixture(scope="module")
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(3, 8, 3, (1, 3, 3), 1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 6)
    )


@pytest.fixture(scope="module")
def inputs() -> Tensor:
    return make_video(2)


class Gained(nn.Module):
    """Class scores that depend on what is given beside the clips, which must have a row for each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.network = make_net()

    def forward(self, video: Tensor, gain: Tensor, power: Any = None, words: dict[str, float] | None = None) -> Tensor:
        assert gain.shape == (len(video),)
        return (self.network(video * (words or {}).get("scale", 1)) * gain[:, None]) ** (power or 1)


class Pathways(nn.Module):
    """Two clips of one batch to class scores: what is seen in the one changes what the other is worth."""

    def __init__(self) -> None:
        super().__init__()
        self.slow, self.fast = make_net(), make_net()

    def forward(self, slow: Tensor, fast: Tensor, gain: Tensor | None = None) -> Tensor:
        scores: Tensor = self.slow(slow) * (1 + self.fast(fast))
        return scores if gain is None else scores * gain[:, None]


def exact(forward: Any, **options: Any) -> AOSA:
    """What is the same as Captum's `FeatureAblation`, where `segments` are its features."""
    return AOSA(forward, score="logit", aggregate="mean", **options)


def ablated(forward: Any, inputs: Any, **arguments: Any) -> Any:
    several = isinstance(inputs, tuple)
    masks = tuple(LABELS.long() + 100 * place for place in range(len(inputs))) if several else LABELS.long()
    return FeatureAblation(forward).attribute(inputs, feature_mask=masks, **arguments)


def close(found: Tensor, expected: Tensor, share: float = 1e-4) -> bool:
    """Whether they differ by no more than a share of the largest value, which is not 0."""
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    return float((found - expected).abs().max()) < share * float(expected.abs().max())


@pytest.mark.parametrize("method", KINDS)
@pytest.mark.parametrize("target", [3, [3, 1], torch.tensor([3, 1]), torch.tensor(3), [(3,), (1,)], (3,)], ids=str)
def test_gives_the_map_on_every_channel(method, target, net, inputs):
    attributor = KINDS[method](net, stride=12, score="logit")
    result = attributor.attribute(inputs, target)
    classes = torch.tensor([3, 3] if target in (3, (3,)) else [3, 1]) if not isinstance(target, Tensor) else target
    expected = explain(net, inputs, classes, method=method, stride=12, score="logit")
    assert (result.shape, result.dtype, result.device) == (inputs.shape, inputs.dtype, inputs.device)
    assert result.is_contiguous()
    for c in range(3):
        assert torch.equal(result[:, c], expected.saliency)
    assert attributor.explanation is not None
    assert torch.equal(attributor.explanation.scores, expected.scores)
    assert float(result.abs().max()) > 0


@pytest.mark.parametrize("method", KINDS)
def test_baselines_are_the_fill(method, net, inputs):
    attributor = KINDS[method](net)
    pattern = torch.linspace(-1, 1, 40)
    for baselines, fill in (
        (0, torch.zeros(1)),
        ((0.7,), torch.tensor(0.7)),
        (pattern, pattern),
        (inputs + 1, inputs + 1),
    ):
        expected = explain(net, inputs, 2, method=method, fill=fill)
        assert torch.equal(attributor.attribute(inputs, 2, baselines=baselines)[:, 0], expected.saliency)
    default = explain(net, inputs, 2, method=method)
    assert torch.equal(attributor.attribute(inputs, target=2)[:, 1], default.saliency)


def test_steps_and_further_arguments_arrive(net, inputs):
    flow = torch.zeros(2, 3, 32, 40, 2)
    result = AOSAPath(net, steps=3).attribute(inputs, 1, flow=flow)
    expected = explain(net, inputs, 1, method="aosa-path", steps=3, flow=flow)
    assert torch.equal(result[:, 0], expected.saliency)
    assert not torch.equal(result, AOSAPath(net, steps=4).attribute(inputs, 1, flow=flow))


@pytest.mark.parametrize("kind", KINDS.values())
def test_they_are_captums_where_it_is_installed(kind, net):
    assert issubclass(kind, Attribution)
    assert isinstance(kind(net), Attribution)
    assert (kind.get_name(), kind(net).has_convergence_delta(), kind(net).multiplies_by_inputs) == (
        kind.__name__, False, True
    )  # fmt: skip


def test_without_captum_they_are_the_same_and_it_is_not_imported_before_them():
    code = """
import sys, torch, aosa_fast
assert "captum" not in sys.modules
sys.modules["captum"] = None
net = torch.nn.Sequential(torch.nn.AdaptiveAvgPool3d((1, 2, 2)), torch.nn.Flatten(), torch.nn.Linear(12, 6))
kind = aosa_fast.AOSAApprox
assert kind.__mro__[2] is object
print(kind(net).attribute(torch.rand(1, 3, 4, 32, 40), 3).shape, kind(net).has_convergence_delta(), kind.get_name())
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stderr, done.stdout) == ("", "torch.Size([1, 3, 4, 32, 40]) False AOSAApprox\n")


@pytest.mark.parametrize("size", [None, 3])
def test_noise_tunnel_repeats_inputs_targets_and_arguments(size, inputs):
    attributor, gain = AOSAApprox(Gained(), score="logit"), torch.tensor([1.0, -2.0])
    torch.manual_seed(1)
    found = NoiseTunnel(attributor).attribute(
        inputs, nt_samples=4, nt_samples_batch_size=size, stdevs=0.3, target=[3, 1], baselines=inputs / 2,
        additional_forward_args=(gain, None, {"scale": 2.0}),
    )  # fmt: skip
    torch.manual_seed(1)
    noise = [torch.normal(0, torch.full((2 * n, *inputs.shape[1:]), 0.3)) for n in ([4] if size is None else [3, 1])]
    noise = torch.cat([part.unflatten(0, (2, -1)) for part in noise], 1)
    samples = [
        attributor.attribute(inputs + noise[:, k], [3, 1], inputs / 2, (gain, None, {"scale": 2.0})) for k in range(4)
    ]
    assert close(found, torch.stack(samples).mean(0))
    assert float(found.abs().max()) > 0


@pytest.mark.parametrize("target", [3, torch.tensor([3])], ids=str)
def test_noise_tunnel_takes_one_target_for_all(target, inputs):
    found = NoiseTunnel(AOSAApprox(make_net())).attribute(inputs[:1], nt_samples=4, nt_type="vargrad", target=target)
    assert found.shape == inputs[:1].shape
    assert float(found.max()) > 0


@pytest.mark.parametrize("more", [None, torch.ones(2)], ids=["the batch", "one by one"])
def test_noise_tunnel_takes_what_has_a_row_for_each_clip(more, inputs):
    flow = torch.stack([torch.zeros(3, 32, 40, 2), torch.full((3, 32, 40, 2), 2.0)])
    attributor = AOSAApprox(lambda video, *gain: make_net()(video))
    found = NoiseTunnel(attributor).attribute(
        inputs, nt_samples=3, stdevs=0.0, target=3, flow=flow, additional_forward_args=more
    )
    assert close(found, attributor.attribute(inputs, 3, flow=flow))
    assert not close(found, attributor.attribute(inputs, 3, flow=flow.flip(0)))
    with pytest.raises(InputError, match=r"^flow must have shape \(2, 3, 32, 40, 2\)"):
        attributor.attribute(inputs, 3, flow=flow[[0, 1, 1]])


def test_exact_scores_are_captums_ablations(net, inputs):
    found = exact(net).attribute(inputs, [3, 1], 0.5, segments=LABELS)
    assert close(found, ablated(net, inputs, target=[3, 1], baselines=0.5))


@pytest.mark.parametrize(
    "more",
    [
        torch.tensor([1.0, -2.0]),
        (torch.tensor([1.0, -2.0]), torch.tensor(2.0)),
        (torch.tensor([1.0, -2.0]), None, {"scale": 2.0}),
    ],
    ids=["tensor", "tuple", "objects"],
)
def test_additional_arguments_follow_the_clips(more, inputs):
    model, fill = Gained(), inputs.flip(0)
    attributor = exact(model)
    found = attributor.attribute(inputs, [3, 1], fill, more, segments=LABELS.expand(2, -1, -1, -1))
    expected = ablated(model, inputs, target=[3, 1], baselines=fill, additional_forward_args=more)
    assert close(found, expected)
    assert [explanation.logits.shape for explanation in attributor.explanations] == [(1, 6)] * 2


def test_arguments_without_rows_leave_the_batch_whole(inputs):
    sizes = []

    def forward(video: Tensor, scale: float) -> Tensor:
        sizes.append(len(video))
        return make_net()(video * scale)

    attributor = AOSAApprox(forward)
    assert torch.equal(
        attributor.attribute(inputs, 3, additional_forward_args=0.5)[:, 0],
        explain(lambda video: make_net()(video * 0.5), inputs, 3).saliency,
    )
    assert max(sizes) == 2
    assert len(attributor.explanations) == 1


@pytest.mark.parametrize("gain", [None, torch.tensor([1.0, -2.0])], ids=["alone", "with arguments"])
def test_each_of_several_inputs_is_explained_beside_the_others(gain):
    model, clips = Pathways(), (make_video(2), make_video(2, seed=1))
    attributor = exact(model)
    found = attributor.attribute(clips, [3, 1], (0.5, None), gain, segments=LABELS)
    expected = ablated(model, clips, target=[3, 1], baselines=(0.5, 0), additional_forward_args=gain)
    assert isinstance(found, tuple)
    assert [close(*pair) for pair in zip(found, expected, strict=True)] == [True, True]
    assert len(attributor.explanations) == 4  # of each input, its clips


def test_inputs_may_differ_in_frames_and_a_tuple_of_one_stays_one(inputs):
    slow, fast = inputs[:1, :, ::2], inputs[:1]
    model = Pathways()
    for kind in KINDS.values():
        found = kind(model).attribute((slow, fast), 3)
        assert torch.equal(
            found[0], kind(lambda clip: model(clip, fast.expand(len(clip), *[-1] * 4))).attribute(slow, 3)
        )
        assert torch.equal(
            found[1], kind(lambda clip: model(slow.expand(len(clip), *[-1] * 4), clip)).attribute(fast, 3)
        )
        (one,) = kind(model.slow).attribute((fast,), 3)
        assert torch.equal(one, kind(model.slow).attribute(fast, 3))


def test_infidelity_is_less_than_that_of_maps_that_say_less(inputs):
    @infidelity_perturb_func_decorator(True)
    def hide(video: Tensor, baselines: Any = None) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        covered = (
            torch.rand(len(video), 1, 1, 4, 5, generator=generator).repeat_interleave(8, 3).repeat_interleave(8, 4)
        )
        return torch.where(covered < 0.3, 0.0, video)

    model = make_net(scale=30.0)
    maps = AOSA(model, score="logit").attribute(inputs, 3)
    values = [
        infidelity(model, hide, inputs, attributions, target=3, n_perturb_samples=20, normalize=True)
        for attributions in (maps, maps.flip(3, 4), torch.zeros_like(maps))
    ]
    assert values[0].shape == (2,)
    assert (values[0] < values[1]).all()
    assert (values[0] < values[2]).all()


def test_sensitivity_is_that_of_the_maps(inputs):
    attribute = AOSAApprox(make_net()).attribute
    found = [
        sensitivity_max(attribute, inputs, perturb_radius=radius, n_perturb_samples=3, target=[3, 1])
        for radius in (0.0, 0.001, 0.5)
    ]
    assert found[0].tolist() == [0, 0]
    assert (found[1] > 0).all()
    assert (found[1] < found[2]).all()
    assert (found[2] < 3).all()


def flat_net(dtype: torch.dtype, classes: int = 6) -> nn.Module:
    """Of layers that every version of torch has in half precision on a CPU."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(3), nn.Linear(1280, 8), nn.ReLU(), nn.Flatten(), nn.Linear(96, classes)).to(dtype)


@pytest.mark.parametrize(
    ("dtype", "share"), [(torch.float64, 1e-3), (torch.float16, 0.01), (torch.bfloat16, 0.1)], ids=str
)
@pytest.mark.parametrize("wrapped", [False, True], ids=["network", "function"])
def test_inputs_and_models_of_any_precision(dtype, share, wrapped, inputs):
    net, seen = flat_net(dtype), set()

    def forward(video: Tensor) -> Tensor:
        seen.add(video.dtype)
        scores: Tensor = net(video)
        return scores

    for kind in KINDS.values():
        found = kind(forward if wrapped else net, score="logit").attribute(inputs.to(dtype), 3)
        expected = kind(flat_net(dtype).float(), score="logit").attribute(inputs.to(dtype).float(), 3)
        assert found.dtype == dtype
        assert close(found.float(), expected, share)
    assert seen == ({dtype} if wrapped else set())


def test_precise_inputs_of_a_model_that_is_not(net, inputs):
    for dtype in (torch.float64, torch.float32):
        found = AOSAApprox(net).attribute(inputs.to(dtype), 3)
        assert torch.equal(found, explain(net, inputs, 3).saliency.unsqueeze(1).expand_as(inputs).to(dtype))


@pytest.mark.parametrize("kind", KINDS.values())
@pytest.mark.parametrize("last", [nn.Flatten(0), nn.Identity(), torch.squeeze], ids=["(B,)", "(B, 1)", "squeezed"])
def test_a_model_of_one_score_needs_no_target(kind, last, inputs):
    net = flat_net(torch.float32, 1)
    for batch in (inputs, inputs[:1]):
        found = kind(lambda video: last(net(video))).attribute(batch)
        assert torch.equal(found[:, 0], explain(net, batch, 0, method=kind(net).config.method, score="logit").saliency)


def test_a_score_that_was_asked_for_is_that_of_the_one_score(inputs):
    net = flat_net(torch.float32, 1)
    found = AOSAApprox(net, score="sigmoid").attribute(inputs)
    assert torch.equal(found[:, 0], explain(net, inputs, 0, score="sigmoid").saliency)


def test_other_targets_are_those_of_explain(net, inputs):
    for target in ("pred", Difference(3, 1)):
        assert torch.equal(AOSAApprox(net).attribute(inputs, target)[:, 0], explain(net, inputs, target).saliency)


def test_a_model_in_training_is_explained_in_evaluation_mode_by_all_threads_at_once(inputs):
    inside, done, modes = threading.Event(), threading.Event(), []

    class Watched(Gained):
        def forward(self, video: Tensor, gain: Tensor) -> Tensor:  # type: ignore[override]
            if gain[0] == 1 and not inside.is_set():  # the first, which is done before the second
                second.start()
                assert inside.wait(30)
            if gain[0] == 2:
                inside.set()
                assert done.wait(30)
                modes.append(self.training)
            return super().forward(video, gain)

    model = Watched().train()
    gains = [torch.tensor([value, value]) for value in (1.0, 2.0)]
    second = threading.Thread(target=AOSAApprox(model).attribute, args=(inputs, 3, None, gains[1]))
    AOSAApprox(model).attribute(inputs, 3, None, gains[0])
    done.set()
    second.join(30)
    assert len(modes) > 2
    assert not any(modes)
    assert all(module.training for module in model.modules())


RULE = r"inputs must be \(B, C, T, H, W\) of real numbers, or a tuple of such clips, of one B; got "


@pytest.mark.parametrize(
    ("given", "got"),
    [
        (make_video(2)[0], r"torch.float32 \(3, 4, 32, 40\): what is not a clip goes into additional_forward_args"),
        ((make_video(2), torch.zeros(2, 7)), r"torch.float32 \(2, 7\): what is not a clip"),
        ((make_video(2), make_video(1)), r"torch.float32 \(1, 3, 4, 32, 40\): what is not a clip"),
        (make_video(2).byte(), r"torch.uint8 \(2, 3, 4, 32, 40\): what is not a clip"),
        ([make_video(2)], "list: what is not a clip"),
        ((), "none"),
    ],
    ids=["without B", "not a clip", "another B", "pictures", "list", "none"],
)
def test_inputs_that_are_no_clips_are_refused(given, got, net):
    with pytest.raises(InputError, match=f"^{RULE}{got}"):
        AOSA(net).attribute(given, 3)


@pytest.mark.parametrize(
    ("target", "got"),
    [
        (None, "target must be an index, a name, 'pred', a tensor or a Difference; got None"),
        ((1, 2), r"target must be an index, a name, 'pred', a tensor or a Difference; got \(1, 2\)"),
        ([0.5, 1.0], "target must be an index, a name, 'pred', a tensor or a Difference; got 0.5"),
        ([3], "target must have one class per clip, B=2; got 1"),
        (torch.tensor([3, 1, 2]), r"target must have one class per clip, B=2; got shape \(3,\)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("more", [(), torch.ones(2)], ids=["the batch", "one by one"])
def test_targets_that_name_no_classes_are_refused(target, got, more, inputs):
    with pytest.raises(InputError, match=f"^{got}$"):
        AOSA(lambda video, *gain: make_net()(video)).attribute(inputs, target, None, more)


def test_bad_choices_are_refused(net, inputs):
    with pytest.raises(TypeError, match="strides"):
        AOSA(net, strides=3)
    with pytest.raises(InputError, match=r"^stride must be at least 1; got 0$"):
        AOSA(net, stride=0)
    with pytest.raises(InputError, match=r"^fill must broadcast to \(2, 3, 4, 32, 40\); got \(7,\)$"):
        AOSA(net).attribute(inputs, 0, baselines=torch.zeros(7))
    with pytest.raises(InputError, match=r"^baselines must be one for each of the 1 inputs; got 2$"):
        AOSA(net).attribute(inputs, 0, baselines=(0, 1))
