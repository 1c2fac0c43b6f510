from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tiny_transformers import FAMILIES, tiny_clips, tiny_mvit, tiny_network, tiny_swin
from torch import Tensor, nn

from aosa_fast import Difference
from aosa_fast.config import Config
from aosa_fast.demo.network import DemoNet
from aosa_fast.errors import InputError
from aosa_fast.inference.precision import precision
from aosa_fast.methods.attention_rollout import attention_rollout
from aosa_fast.models.anatomy import Anatomy
from aosa_fast.models.token_layout import TokenLayout
from aosa_fast.targets import ResolvedTarget
from small_nets import hooks, linear_along, resolver

SHARP = 4.0  # weights so large that attention is far from uniform
ROLLOUT = Config(method="attention-rollout")
T, H, W = 3, 6, 4  # the grid of the tiny TimeSformer, with patches of 8 x 8


def stretched(cells: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    for axis, length in enumerate(size, 1):
        cells = linear_along(cells, axis, length)
    return cells


def index(t: int, p: int) -> int:
    """Of a token between TimeSformer's blocks."""
    return 1 + p * T + t


def softmax(values: Tensor) -> Tensor:
    return (values - values.max()).exp() / (values - values.max()).exp().sum()


def dense_attention(attention: Any, tokens: Tensor, groups: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Attention as one matrix over all tokens, (L, L), its heads averaged; and what it adds to each token, (L, C).

    Tokens attend within each of `groups`, query by query, with the weights of `attention`. A token of several groups,
    the class token, takes the mean.
    """
    heads, size = attention.attention.num_heads, tokens.shape[1] // attention.attention.num_heads
    matrix, added = torch.zeros(heads, len(tokens), len(tokens)), torch.zeros_like(tokens)
    weight, bias = attention.attention.qkv.weight, attention.attention.qkv.bias
    share = {token: 1 / sum(token in group for group in groups) for group in groups for token in group}
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        query, key, value = (
            tokens @ weight[i * tokens.shape[1] :][part].T + bias[i * tokens.shape[1] :][part] for i in range(3)
        )
        for group in groups:
            for token in group:
                row = softmax(torch.stack([query[token] @ key[other] for other in group]) / size**0.5)
                matrix[head, token, group] += share[token] * row
        added[:, part] = matrix[head] @ value
    return matrix.mean(0), added


def dense_blocks(network: nn.Module, video: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(space, time) of each block of a divided TimeSformer for one clip, worked out from the weights.

    The blocks' outputs are compared with the network's own, so that the matrices are known to be those that it uses.
    """
    model = network.model.timesformer
    states = model(video.transpose(1, 2), output_hidden_states=True).hidden_states
    patches = range(H * W)
    in_time = [[index(t, p) for t in range(T)] for p in patches]
    in_space = [[0, *(index(t, p) for p in patches)] for t in range(T)]
    found = []
    for i, layer in enumerate(model.encoder.layer):
        tokens = states[i][0]
        time, added = dense_attention(layer.temporal_attention, layer.temporal_layernorm(tokens), in_time)
        time[0, 0] = 1  # the class token isn't in it
        added = layer.temporal_dense(layer.temporal_attention.output(added))
        tokens = tokens + torch.cat([torch.zeros(1, tokens.shape[1]), added[1:]])
        space, added = dense_attention(layer.attention, layer.layernorm_before(tokens), in_space)
        tokens = tokens + layer.attention.output(added)
        tokens = tokens + layer.output(layer.intermediate(layer.layernorm_after(tokens)))
        torch.testing.assert_close(tokens, states[i + 1][0], rtol=1e-3, atol=1e-3)
        found.append((space, time))
    return found


def test_divided_attention_is_the_product_of_dense_matrices():
    network, video = tiny_network("timesformer", SHARP, num_hidden_layers=3), tiny_clips("timesformer")
    maps = attention_rollout(network, video, ROLLOUT, resolver("pred"))[2][0]
    for clip in range(2):
        with torch.no_grad():
            blocks = dense_blocks(network, video[clip : clip + 1])
        product, rest = torch.eye(1 + T * H * W), torch.eye(1 + T * H * W)
        for space, time in blocks:
            space, time = space + rest, time + rest
            space, time = space / space.sum(1, keepdim=True), time / time.sum(1, keepdim=True)
            product = space @ time @ product
        torch.testing.assert_close(product.sum(1), torch.ones(len(product)))
        cells = np.zeros((1, T, H, W))
        for t in range(T):
            for p in range(H * W):
                cells[0, t, p // W, p % W] = product[0, index(t, p)]
        expected = stretched(cells, (3, 48, 32))
        np.testing.assert_allclose(maps[clip], expected[0], rtol=1e-3, atol=1e-3 * expected.max())
        assert expected.max() > 1.5 * expected.mean()


def test_divided_attention_of_the_embedded_network():
    from aosa_fast.demo.attention import PREPROCESSING, DemoAttention

    torch.manual_seed(0)
    network = DemoAttention().eval()
    inputs: dict[str, list[Tensor]] = {"time": [], "space": []}
    for block in network.blocks:
        for kind, attend in (("time", block.attend_time), ("space", block.attend_space)):
            with torch.no_grad():
                attend.qkv.weight.mul_(3)
            attend.qkv.register_forward_hook(lambda _m, given, _o, kind=kind: inputs[kind].append(given[0]))
    video = torch.randn(1, 3, PREPROCESSING.frames, *PREPROCESSING.crop)
    saliency = attention_rollout(network, video, ROLLOUT, resolver("pred"))[2][0]
    frames, high, wide = network.grid
    patches = high * wide
    tokens = 1 + frames * patches

    def rolled(attend: Any, given: Tensor, places: list[list[int]]) -> Tensor:
        """(A + I) / 2 over all tokens, time-major, where row i of the batch has the tokens `places[i]`."""
        dim, heads = given.shape[-1], attend.heads
        total = torch.zeros(tokens, tokens)
        for row, group in zip(given, places, strict=True):
            for head in range(heads):
                part = slice(head * dim // heads, (head + 1) * dim // heads)
                query, key = (
                    row @ attend.qkv.weight[i * dim : (i + 1) * dim][part].T
                    + attend.qkv.bias[i * dim : (i + 1) * dim][part]
                    for i in range(2)
                )
                matrix = torch.softmax(torch.einsum("id,jd->ij", query, key) / (dim / heads) ** 0.5, 1)
                total[torch.tensor(group)[:, None], torch.tensor(group)] += matrix / heads
        if places[0][0] == 0:
            total[0] /= len(places)  # the class token is in every frame, and its mean goes on
        total += torch.eye(tokens)
        return total / total.sum(1, keepdim=True)

    in_time = [[1 + t * patches + p for t in range(frames)] for p in range(patches)]
    in_space = [[0, *(1 + t * patches + p for p in range(patches))] for t in range(frames)]
    row = torch.eye(tokens)[0]
    with torch.no_grad():
        for i in reversed(range(len(network.blocks))):
            row = row @ rolled(network.blocks[i].attend_space, inputs["space"][i], in_space)
            row = row @ rolled(network.blocks[i].attend_time, inputs["time"][i], in_time)
    expected = stretched(row[1:].reshape(1, frames, high, wide).numpy(), tuple(video.shape[2:]))
    np.testing.assert_allclose(saliency, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert expected.max() > 1.2 * expected.mean()


@pytest.mark.parametrize("family", ["timesformer-joint", "videomae", "vivit"])
def test_joint_attention_is_the_product_of_the_networks_own_matrices(family: str):
    network, video = tiny_network(family, SHARP, num_hidden_layers=3), tiny_clips(family)
    assert family == "timesformer-joint" or network.model.config._attn_implementation == "sdpa"
    saliency = attention_rollout(network, video, ROLLOUT, resolver("pred"))[2][0]
    network.model.set_attn_implementation("eager")
    with torch.no_grad():
        attentions = network.model(video.transpose(1, 2), output_attentions=True).attentions
    assert len(attentions) == 3
    tokens = attentions[0].shape[-1]
    product = torch.eye(tokens).expand(2, -1, -1)
    for attention in attentions:
        summed = attention.mean(1) + torch.eye(tokens)
        product = summed / summed.sum(-1, keepdim=True) @ product
    if family == "videomae":
        cells = product.mean(1).reshape(2, 4, 3, 10)
    elif family == "vivit":
        cells = product[:, 0, 1:].reshape(2, 4, 3, 10)
    else:
        cells = product[:, 0, 1:].reshape(2, H, W, T).permute(0, 3, 1, 2)
    expected = stretched(cells.numpy(), tuple(video.shape[2:]))
    np.testing.assert_allclose(saliency, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert expected.max() > 1.2 * expected.mean()


def test_pooled_attention_is_the_query_s_row_of_the_networks_own_matrices():
    network, video = tiny_network("vjepa2", SHARP, num_hidden_layers=3), tiny_clips("vjepa2")
    saliency = attention_rollout(network, video, ROLLOUT, resolver("pred"))[2][0]
    own: list[Tensor] = []
    network.model.set_attn_implementation("eager")
    attentions = [layer.attention for layer in network.model.vjepa2.encoder.layer]
    attentions += [layer.self_attn for layer in network.model.pooler.self_attention_layers]
    for attention in (*attentions, network.model.pooler.cross_attention_layer.cross_attn):
        attention.register_forward_hook(lambda _m, _i, output: own.append(output[1].mean(1)))
    with torch.no_grad():
        network(video)
    *blocks, row = own
    assert (len(blocks), row.shape) == (4, (2, 1, 48))
    for matrix in reversed(blocks):
        row = row @ (matrix + torch.eye(48)) / 2
    expected = stretched(row.reshape(2, 3, 4, 4).numpy(), (6, 16, 16))
    np.testing.assert_allclose(saliency, expected, rtol=1e-3, atol=1e-4 * expected.max())
    assert expected.max() > 1.2 * expected.mean()


def test_videomae_without_mean_pooling_follows_its_first_token():
    network, video = tiny_network("videomae", SHARP, use_mean_pooling=False), tiny_clips("videomae")
    saliency = attention_rollout(network, video, ROLLOUT, resolver(0))[2][0]
    # A quarter of the first token goes past both blocks, and it is one of 120.
    assert (saliency.flatten(1).argmax(1) == 0).all()
    assert (saliency[:, 0, 0, 0] > 0.25).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_is_its_clips(family: str):
    network, video = tiny_network(family, SHARP), tiny_clips(family, clips=3)
    logits, _, (saliency,) = attention_rollout(network, video, ROLLOUT, resolver("pred"))
    with torch.no_grad():
        assert torch.equal(logits, network(video))
    assert saliency.shape == (3, *video.shape[2:])
    assert saliency.dtype == torch.float32
    for i in range(3):
        own = attention_rollout(network, video[i : i + 1], ROLLOUT, resolver("pred"))[2][0]
        torch.testing.assert_close(own[0], saliency[i], rtol=1e-3, atol=1e-6)
    assert (saliency[0] - saliency[1]).abs().max() > 0.05 * saliency.max()


def test_the_map_is_the_same_for_every_target_and_resolve_is_asked_once():
    network, video = tiny_network("timesformer", SHARP), tiny_clips("timesformer")
    calls: list[Tensor] = []

    def once(logits: Tensor) -> list[ResolvedTarget]:
        calls.append(logits)
        return resolver(0, 5, Difference(1, 2))(logits)

    _, targets, maps = attention_rollout(network, video, ROLLOUT, once)
    assert (len(calls), len(targets), len(maps)) == (1, 3, 3)
    assert torch.equal(maps[0], maps[1])
    assert torch.equal(maps[0], maps[2])
    maps[0].zero_()
    assert maps[1].max() > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_network_is_left_as_it_was(family: str):
    network, video = tiny_network(family), tiny_clips(family)
    clip = video.clone()
    attention_rollout(network, video, ROLLOUT, resolver(0))
    assert hooks(network) == 0
    assert all(p.grad is None and p.requires_grad for p in network.parameters())
    assert torch.equal(video, clip)
    with pytest.raises(InputError, match="video must be"):
        attention_rollout(network, video[..., :-1], ROLLOUT, resolver(0))
    assert hooks(network) == 0


def test_wrapped_and_bfloat16_networks():
    network, video = tiny_network("timesformer", 2.0), tiny_clips("timesformer")
    plain = attention_rollout(network, video, ROLLOUT, resolver(0))[2][0]
    wrapped = attention_rollout(nn.DataParallel(torch.compile(network)), video, ROLLOUT, resolver(0))[2][0]
    assert torch.equal(plain, wrapped)
    with precision("bfloat16", video.device):
        choices = Config(method="attention-rollout", dtype="bfloat16")
        coarse = attention_rollout(network, video, choices, resolver(0))[2][0]
    assert coarse.dtype == torch.float32
    torch.testing.assert_close(coarse, plain, rtol=0.1, atol=0.05 * float(plain.max()))


def test_shares_add_up_to_one_also_in_bfloat16():
    network, video = tiny_network("videomae", SHARP), tiny_clips("videomae")
    with precision("bfloat16", video.device):
        choices = Config(method="attention-rollout", dtype="bfloat16")
        saliency = attention_rollout(network, video, choices, resolver(0))[2][0]
    # 120 tokens, none of them a class token; stretching them by whole numbers keeps their mean.
    torch.testing.assert_close(saliency.mean((1, 2, 3)), torch.full((2,), 1 / 120), rtol=1e-5, atol=0)


NO_ATTENTION: dict[str, tuple[Callable[[], Any], str]] = {
    "conv": (DemoNet, "DemoNet"),
    "mvit": (tiny_mvit, "MViT"),
    "swin": (tiny_swin, "SwinTransformer3d"),
    "unknown": (nn.Sequential, "Sequential"),
    "space-only": (lambda: tiny_network("timesformer", attention_type="space_only"), "HuggingFace"),
    "function": (lambda: lambda video: video, "function"),
}


@pytest.mark.parametrize("name", NO_ATTENTION)
def test_other_networks_are_refused(name: str):
    make, said = NO_ATTENTION[name]
    with pytest.raises(InputError, match=f"attention-rollout must have TimeSformer, ViViT, .*; got {said}$") as caught:
        attention_rollout(make(), torch.zeros(1, 3, 4, 24, 40), ROLLOUT, resolver(0))
    assert "\n" not in str(caught.value)


class Claims(nn.Module):
    """Says that its attention is joint, but its tokens are others."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        self.heads = 1
        self.query, self.key = nn.Linear(3, 4), nn.Linear(3, 4)
        self.anatomy = Anatomy("query", TokenLayout("time-major", special=1, patch=(1, 2, 2)), attention)

    def forward(self, video: Tensor) -> Tensor:
        self.query(video.flatten(2).mT)
        self.key(video.flatten(2).mT)
        return video.mean((3, 4))[..., 0]


def test_attention_that_is_not_what_it_is_said_to_be():
    video = torch.randn(1, 3, 2, 4, 4)
    with pytest.raises(InputError, match="layer's output must be time-major"):
        attention_rollout(Claims("joint"), video, ROLLOUT, resolver(0))
    with pytest.raises(InputError, match=r"attention-rollout must have TimeSformer.*; got Claims"):
        attention_rollout(Claims("divided"), video, ROLLOUT, resolver(0))
    network = tiny_network("vivit")
    # Keys that overflow, whereas the network goes on with what is finite.
    last = network.model.vivit.layers[1].attention
    last.k_proj.register_forward_hook(lambda _m, _i, output: output * float("inf"))
    last.register_forward_hook(lambda _m, _i, output: (torch.zeros_like(output[0]), None))
    with pytest.raises(InputError, match="rows of attention that add up to 1; got"):
        attention_rollout(network, tiny_clips("vivit"), ROLLOUT, resolver(0))
