"""Attention rollout for divided space-time and for joint attention (Abnar and Zuidema 2020; method: section 8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.call import Model, call_model, input_format
from aosa_fast.methods.hooks import forward_hooks
from aosa_fast.methods.input_gradients import Found, Resolve
from aosa_fast.models.anatomy import Anatomy, find_anatomy, unwrap
from aosa_fast.models.token_layout import TokenLayout


def attention_rollout(model: Model, video: Tensor, config: Config, resolve: Resolve) -> Found:
    """How much of each token reaches the class token, through the attention of all blocks and the ways past it.

    An attention with its heads averaged and with its residual is (A + I) / 2. In divided attention, a block is that of
    its attention in space times that of its attention in time, which the class token has no part in; what the class
    token gathers in each frame is averaged. The map is the class token's row of the product of all blocks, or the mean
    row where a network averages its tokens, or the row of the query that gathers them, which is no token itself. Only
    that row is propagated, from the last block to the first. Attention is computed from queries and keys, which the
    attention's own code turns by their places where it does: the matrices that transformers returns are incomplete for
    TimeSformer, lack V-JEPA 2's pooler, and need the slower kind of attention for the others.

    The map is the same for every target: rollout knows no classes. Its values are shares of the class token, per token,
    stretched to the clip. See `Comparator`.

    Raises:
        InputError: a model whose attention `aosa_fast.models.anatomy` does not know; rows that do not add up to 1.
    """
    network, anatomy, blocks = find_attention(model, "attention-rollout")
    outputs: dict[nn.Module, Tensor] = {}
    hooks = [
        (layer, lambda _, output, layer=layer: outputs.__setitem__(layer, output))
        for block in blocks
        for attention in block
        for layer in attention.layers
    ]
    dtype, layout = input_format(network, config.dtype)
    with torch.no_grad(), forward_hooks(hooks):
        logits = call_model(network, video.to(dtype=dtype, memory_format=layout, copy=True))
    targets = resolve(logits)
    # Rows lose their sum in bfloat16, in which the model may compute.
    with torch.no_grad(), torch.autocast(video.device.type, enabled=False):
        tokens = anatomy.layout
        if anatomy.attention == "divided":
            tokens = TokenLayout("time-major", special=1, grid=anatomy.layout.grid_of(video.shape))
            row = _divided(blocks, outputs, len(video), anatomy.layout.grid_of(video.shape))
        else:
            row = _joint(blocks, outputs, network)
        if not torch.allclose(row.sum(1), torch.ones_like(row[:, 0]), rtol=0, atol=1e-2):
            raise InputError(
                f"attention-rollout must have rows of attention that add up to 1; got {row.sum(1).tolist()}"
            )
        grid = tokens.to_grid(row.unsqueeze(-1), video.shape)
        saliency = interpolate(grid, video.shape[2:], mode="trilinear", align_corners=False).squeeze(1)
    return logits, targets, [saliency.clone() for _ in targets]


@dataclass(frozen=True)
class Attention:
    """One attention of one block.

    Attributes:
        module: what these layers are in.
        kind: its tokens: of a place in "time", of a frame in "space", all in "joint" attention, or all in "pooled"
            attention, whose queries are no tokens.
        layers: the layer that gives queries, keys and values side by side, or that of the queries and that of the keys.
        heads: how many each of these is split into.
    """

    module: nn.Module
    kind: str
    layers: tuple[nn.Module, ...]
    heads: int

    def pass_back(self, row: Tensor, outputs: dict[nn.Module, Tensor]) -> Tensor:
        """(N, L), shares of what leaves the attention, to shares of what enters it; half goes past it, if it can.

        `outputs` has what `layers` gave, (N, L, heads * d), or three times that.
        """
        pooled = self.kind == "pooled"
        given = [outputs[layer] for layer in self.layers if layer in outputs]
        parts = given[0].chunk(3, -1)[:2] if len(self.layers) == 1 and given else given
        if len(parts) != 2 or any(part.shape[:-1] != row.shape for part in parts[: 1 if pooled else 2]):
            got = ", ".join(str(tuple(part.shape)) for part in parts) or "none"
            raise InputError(f"attention-rollout must have queries and keys of {tuple(row.shape)} tokens; got {got}")
        queries, keys = (part.unflatten(-1, (self.heads, -1)).movedim(2, 0).float() for part in parts)
        module: Any = self.module
        if hasattr(module, "apply_rotary_embeddings"):
            places = module.get_position_ids(parts[0])
            queries, keys = (module.apply_rotary_embeddings(part, places) for part in (queries, keys))
        passed = row.new_zeros(parts[1].shape[:2])
        for query, key in zip(queries, keys, strict=True):  # head by head: the matrices of all would fill the memory
            attention = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
            passed += (row.unsqueeze(1) @ attention).squeeze(1)
        # As the rows of A add up to 1, so do those of (A + I) / 2.
        return passed / self.heads if pooled else (row + passed / self.heads) / 2


def find_attention(model: Model, method: str) -> tuple[nn.Module, Anatomy, list[tuple[Attention, ...]]]:
    """The network inside of a model, its anatomy, and the attentions of each block.

    Raises:
        InputError: a model whose attention `aosa_fast.models.anatomy` does not know; the message names the method.
    """
    network = unwrap(model) if isinstance(model, nn.Module) else None
    anatomy = find_anatomy(network) if network else None
    blocks = _blocks(network, anatomy.attention) if network and anatomy and anatomy.attention else []
    if network is None or anatomy is None or not blocks:
        raise InputError(
            f"{method} must have TimeSformer, ViViT, VideoMAE, V-JEPA 2 or the embedded model with attention; "
            f"got {type(network or model).__name__}"
        )
    return network, anatomy, blocks


def _blocks(network: nn.Module, attention: str) -> list[tuple[Attention, ...]]:
    """The attentions of each block, time before space; none where their layers have other names than the known ones."""
    layers: dict[str, list[Attention]] = {"time": [], "space": [], "joint": [], "pooled": []}
    for name, parent in network.named_modules():
        if ".predictor." in name:  # of V-JEPA 2's training, no part of the classifier
            continue
        parts = [getattr(parent, part, None) for part in ("qkv", "query", "key", "q_proj", "k_proj")]
        found = tuple(part for part in parts if isinstance(part, nn.Linear))
        heads = [getattr(parent, part, None) for part in ("num_heads", "num_attention_heads", "heads")]
        count = next((number for number in heads if isinstance(number, int)), None)
        if found and count:
            in_time = "temporal_attention" in name or "attend_time" in name
            kind = "time" if in_time else "space"
            if attention in ("joint", "pooled"):
                kind = "pooled" if name.endswith("cross_attn") else "joint"
            layers[kind].append(Attention(parent, kind, found, count))
    if attention in ("joint", "pooled"):
        return [(one,) for one in layers["joint"] + layers["pooled"]]
    if attention == "divided" and len(layers["time"]) == len(layers["space"]):
        return list(zip(layers["time"], layers["space"], strict=True))
    return []


def _divided(
    blocks: list[tuple[Attention, ...]], outputs: dict[nn.Module, Tensor], clips: int, grid: tuple[int, int, int]
) -> Tensor:
    """The class token's row (B, 1 + T'H'W'), frame by frame.

    In time, the batch of the attention is the patches of all clips; in space it is their frames, each with the class
    token first.
    """
    frames, patches = grid[0], grid[1] * grid[2]
    weight = next(iter(outputs.values()))
    own = weight.new_ones((clips, 1, 1), dtype=torch.float32)
    row = weight.new_zeros((clips, frames, patches), dtype=torch.float32)
    for time, space in reversed(blocks):
        per_frame = torch.cat([(own / frames).expand(-1, frames, 1), row], 2)
        per_frame = space.pass_back(per_frame.flatten(0, 1), outputs).unflatten(0, (clips, frames))
        own = per_frame[:, :, :1].sum(1, keepdim=True)
        per_patch = per_frame[:, :, 1:].mT
        row = time.pass_back(per_patch.flatten(0, 1), outputs).unflatten(0, (clips, patches)).mT
    return torch.cat([own.flatten(1), row.flatten(1)], 1)


def _joint(blocks: list[tuple[Attention, ...]], outputs: dict[nn.Module, Tensor], network: nn.Module) -> Tensor:
    """The row (B, L) of the class token or query, or the mean of all rows, with tokens in the network's own order."""
    tokens = outputs[blocks[-1][0].layers[0]]
    row = tokens.new_zeros(tokens.shape[:2], dtype=torch.float32)
    if getattr(getattr(getattr(network, "model", None), "config", None), "use_mean_pooling", False):
        row += 1 / row.shape[1]
    else:
        row[:, 0] = 1
    for (attention,) in reversed(blocks):
        row = attention.pass_back(row, outputs)
    return row
