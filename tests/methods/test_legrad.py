"""LeGrad, held against gradients by matrices of attention that are written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_transformers import FAMILIES, tiny_clips, tiny_network
from torch import Tensor, nn

from aosa_fast import InputError, explain
from small_nets import hooks, linear_along, make_net, make_video

SHARP = 4.0


def stretched(cells: Tensor, video: Tensor) -> np.ndarray:
    found = cells.detach().numpy()
    for axis, length in enumerate(video.shape[2:], 1):
        found = linear_along(found, axis, length)
    return found


@pytest.mark.parametrize("family", ["timesformer-joint", "videomae", "vivit"])
def test_joint_attention_has_the_gradient_by_the_networks_own_matrices(family: str):
    network, video = tiny_network(family, SHARP), tiny_clips(family)
    found = explain(network, video, 2, method="legrad", score="prob").saliency
    network.model.set_attn_implementation("eager")
    output = network.model(video.transpose(1, 2), output_attentions=True)
    slopes = torch.autograd.grad(output.logits.softmax(1)[:, 2].sum(), output.attentions)
    cells = torch.stack([slope.relu().mean((1, 2)) for slope in slopes]).mean(0)  # over heads and queries
    if family == "timesformer-joint":
        cells = cells[:, 1:].reshape(2, 6, 4, 3).permute(0, 3, 1, 2)
    else:
        cells = cells[:, family == "vivit" :].reshape(2, 4, 3, 10)
    expected = stretched(cells, video)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert expected.max() > 1.5 * expected.mean() > 0


def test_pooled_attention_has_the_gradient_by_the_networks_own_matrices():
    network, video = tiny_network("vjepa2", SHARP), tiny_clips("vjepa2")
    found = explain(network, video, 2, method="legrad", score="prob").saliency
    own: list[Tensor] = []
    network.model.set_attn_implementation("eager")
    attentions = [layer.attention for layer in network.model.vjepa2.encoder.layer]
    attentions += [layer.self_attn for layer in network.model.pooler.self_attention_layers]
    for attention in (*attentions, network.model.pooler.cross_attention_layer.cross_attn):
        attention.register_forward_hook(lambda _m, _i, output: own.append(output[1]))
    slopes = torch.autograd.grad(network(video).softmax(1)[:, 2].sum(), own)
    assert [slope.shape[-2] for slope in slopes] == [48, 48, 48, 1]
    cells = torch.stack([slope.relu().mean((1, 2)) for slope in slopes]).mean(0).reshape(2, 3, 4, 4)
    expected = stretched(cells, video)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert expected.max() > 1.5 * expected.mean() > 0


def test_divided_attention_has_the_gradient_by_its_matrices_in_time_and_in_space(monkeypatch):
    from aosa_fast.demo.attention import PREPROCESSING, DemoAttention

    torch.manual_seed(0)
    network = DemoAttention().eval()
    for block in network.blocks:  # at the start nothing goes on from its attention in time
        nn.init.normal_(block.attend_time.proj.weight, std=0.3)
    video = torch.randn(2, 3, PREPROCESSING.frames, *PREPROCESSING.crop)
    found = explain(network, video, 1, method="legrad").saliency
    matrices: dict[str, list[Tensor]] = {"time": [], "space": []}

    def written_out(attend: nn.Module, kind: str):
        def forward(tokens: Tensor) -> Tensor:
            parts = attend.qkv(tokens).unflatten(-1, (3, attend.heads, -1))
            query, key, value = (parts[:, :, i].transpose(1, 2) for i in range(3))
            matrices[kind].append(torch.softmax(query @ key.mT / query.shape[-1] ** 0.5, -1))
            return attend.proj((matrices[kind][-1] @ value).transpose(1, 2).flatten(2))

        return forward

    for block in network.blocks:
        monkeypatch.setattr(block.attend_time, "forward", written_out(block.attend_time, "time"))
        monkeypatch.setattr(block.attend_space, "forward", written_out(block.attend_space, "space"))
    score = network(video)[:, 1].sum()
    frames, high, wide = network.grid
    cells = torch.zeros(2, frames, high, wide)
    for kind in matrices:
        for slope in torch.autograd.grad(score, matrices[kind], retain_graph=True):
            per_key = slope.relu().mean(1).sum(1) / (1 + frames * high * wide)
            if kind == "time":
                cells += per_key.reshape(2, high, wide, frames).permute(0, 3, 1, 2)
            else:
                cells += per_key[:, 1:].reshape(2, frames, high, wide)
        assert cells.max() > 0
    expected = stretched(cells / (2 * len(network.blocks)), video)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * expected.max())


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frozen_network_is_left_as_it_was_and_classes_differ(family: str):
    network, video = tiny_network(family, SHARP).requires_grad_(False), tiny_clips(family)
    first, second = explain(network, video, [0, 3], method="legrad")
    assert not torch.allclose(first.saliency, second.saliency, rtol=0.05)
    alone = explain(network, video[1:], 3, method="legrad").saliency
    torch.testing.assert_close(second.saliency[1:], alone, rtol=1e-3, atol=1e-4 * float(alone.max()))
    assert hooks(network) == 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_other_networks_are_refused():
    with pytest.raises(InputError, match=r"^legrad must have TimeSformer, ViViT, .*; got Sequential"):
        explain(make_net(), make_video(), 0, method="legrad")
