"""What is known of a network's inside: the layer for Grad-CAM, the order of its tokens, the kind of its attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from aosa_fast.models.token_layout import TokenLayout

CONV = TokenLayout("channels-first")


@dataclass(frozen=True)
class Anatomy:
    """Of one network.

    Attributes:
        layer: name of the layer that Grad-CAM takes, in the network as `unwrap` gives it: the last one that has a place
            for every part of the clip and all of whose places reach the class score.
        layout: the order of that layer's output.
        attention: "divided" (time, then space) or "joint" (all tokens): softmax(q k / sqrt(d)), q and k from linear
            layers `qkv`, `query` and `key`, or `q_proj` and `k_proj`; None where rollout has no matrix to follow.
    """

    layer: str
    layout: TokenLayout
    attention: str | None = None


def unwrap(network: nn.Module) -> nn.Module:
    """The network inside of `torch.compile` and `DataParallel`, where hooks work and names are its own."""
    while True:
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
            continue
        compiled = getattr(network, "_orig_mod", None)
        if not isinstance(compiled, nn.Module):
            return network
        network = compiled


def find_anatomy(network: nn.Module) -> Anatomy | None:
    """The anatomy of a network of a known family, or None.

    A network of another family may say its own: an `Anatomy` as its attribute `anatomy`. Families are known by the
    names of their classes, so that no library is imported.
    """
    network = unwrap(network)
    own = getattr(network, "anatomy", None)
    if isinstance(own, Anatomy):
        return own
    if _is(network, "torchvision.models.video", "VideoResNet") or _is(network, "aosa_fast", "ResNet3D"):
        return Anatomy("layer4", CONV)
    if _is(network, "torchvision.models.video", "S3D"):
        # The last inception block: the network pools from there on.
        return Anatomy(f"features.{len(_part(network, 'features')) - 1}", CONV)
    if _is(network, "torchvision.models.video", "SwinTransformer3d"):
        return Anatomy("norm", TokenLayout("channels-last"))
    if _is(network, "torchvision.models.video", "MViT"):
        return _mvit(network)
    if _is(network, "aosa_fast", "HuggingFace"):
        return _hugging_face(network, _part(network, "model").config)
    if _is(network, "aosa_fast", "PackedPathways"):
        return _pytorchvideo(_part(network, "network"), "network.")
    if _is(network, "pytorchvideo.models", "Net"):
        return _pytorchvideo(network, "")
    if _is(network, "aosa_fast", "DemoNet"):
        return Anatomy("features", CONV)
    if _is(network, "aosa_fast", "DemoAttention"):
        return _demo_attention(network)
    return None


def _is(network: nn.Module, package: str, name: str) -> bool:
    return any(
        cls.__name__ == name and (cls.__module__ + ".").startswith(package + ".") for cls in type(network).__mro__
    )


def _part(network: nn.Module, name: str) -> Any:
    return getattr(network, name)


def _mvit(network: nn.Module) -> Anatomy:
    """The last block's first norm: of the norm at the end, only the class token is used."""
    blocks, position = _part(network, "blocks"), _part(network, "pos_encoding")
    grid = [position.temporal_size, *position.spatial_size]
    for block in blocks[:-1]:
        if block.attn.pool_q is not None:
            pool = block.attn.pool_q.pool
            sizes = zip(grid, pool.padding, pool.kernel_size, pool.stride, strict=True)
            grid = [(size + 2 * padding - kernel) // stride + 1 for size, padding, kernel, stride in sizes]
    return Anatomy(f"blocks.{len(blocks) - 1}.norm1", TokenLayout("time-major", special=1, grid=_three(grid)))


def _hugging_face(network: nn.Module, config: Any) -> Anatomy | None:
    """The norm before the last block's attention, which is the last place from where all tokens reach the class token.

    From the last block on, TimeSformer and ViViT use the class token alone, and VideoMAE the mean of all.
    """
    kind = config.model_type
    # The versions of transformers name the blocks differently.
    norms = [name for name, _ in network.named_modules() if name.endswith(".layernorm_before")]
    if kind not in ("timesformer", "videomae", "vivit") or not norms:
        return None
    layer = norms[-1]
    if kind == "vivit":
        return Anatomy(layer, TokenLayout("time-major", special=1, patch=_three(config.tubelet_size)), "joint")
    side = config.patch_size
    high, wide = (side, side) if isinstance(side, int) else side
    if kind == "videomae":
        return Anatomy(layer, TokenLayout("time-major", patch=(config.tubelet_size, high, wide)), "joint")
    if config.attention_type == "divided_space_time":
        return Anatomy(layer, TokenLayout("frames-in-batch", special=1, patch=(1, high, wide)), "divided")
    if config.attention_type == "joint_space_time":
        return Anatomy(layer, TokenLayout("patch-major", special=1, patch=(1, high, wide)), "joint")
    return None


def _pytorchvideo(network: nn.Module, prefix: str) -> Anatomy | None:
    """The last residual stage (some networks have a pool among their stages); of SlowFast, its slow pathway."""
    stages = [(i, type(block).__name__) for i, block in enumerate(_part(network, "blocks"))]
    for i, name in reversed(stages):
        if name == "ResStage":
            return Anatomy(f"{prefix}blocks.{i}", CONV)
        if name == "MultiPathWayWithFuse":
            return Anatomy(f"{prefix}blocks.{i}.multipathway_blocks.0", CONV)
    return None


def _demo_attention(network: nn.Module) -> Anatomy:
    layout = TokenLayout("frames-in-batch", special=1, grid=_three(_part(network, "grid")))
    return Anatomy(f"blocks.{len(_part(network, 'blocks')) - 1}.norm_space", layout, "divided")


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    frames, height, width = sizes
    return frames, height, width
