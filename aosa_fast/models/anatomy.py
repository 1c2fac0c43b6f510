"""What is known of a network's inside: the layer for Grad-CAM, the order of its tokens, the kind of its attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        attention: "divided" (time, then space), "joint" (all tokens), or "pooled" (joint, and at the end a query of the
            network's own gathers the tokens): softmax(q k / sqrt(d)), q and k from linear layers `qkv`, `query` and
            `key`, or `q_proj` and `k_proj`; None where rollout has no matrix to follow.
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

    A network of another family may say its own: an `Anatomy` as its attribute `anatomy`.
    """
    network = unwrap(network)
    own = getattr(network, "anatomy", None)
    if isinstance(own, Anatomy):
        return own
    for cls in type(network).__mro__:
        for package, name, find in _FAMILIES:
            if cls.__name__ == name and f"{cls.__module__}.".startswith(f"{package}."):
                return find(network)
    return None


def _mvit(network: Any) -> Anatomy:
    """The last block's first norm: of the norm at the end, only the class token is used."""
    blocks, position = network.blocks, network.pos_encoding
    grid = [position.temporal_size, *position.spatial_size]
    for block in blocks[:-1]:
        if block.attn.pool_q is not None:
            pool = block.attn.pool_q.pool
            sizes = zip(grid, pool.padding, pool.kernel_size, pool.stride, strict=True)
            grid = [(size + 2 * padding - kernel) // stride + 1 for size, padding, kernel, stride in sizes]
    return Anatomy(f"blocks.{len(blocks) - 1}.norm1", TokenLayout("time-major", special=1, grid=_three(grid)))


def _hugging_face(network: Any) -> Anatomy | None:
    """The norm before the last block's attention, which is the last place from where all tokens reach the class token.

    From the last block on, TimeSformer and ViViT use the class token alone, VideoMAE the mean of all, and V-JEPA 2 what
    the query of its pooler gathers of them.
    """
    config = network.model.config
    kind = config.model_type
    if kind == "vjepa2":
        layout = TokenLayout("time-major", patch=(config.tubelet_size, config.patch_size, config.patch_size))
        return Anatomy("model.pooler.cross_attention_layer.layer_norm1", layout, "pooled")
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
    orders = {"divided_space_time": "frames-in-batch", "joint_space_time": "patch-major"}
    if config.attention_type not in orders:
        return None
    layout = TokenLayout(orders[config.attention_type], special=1, patch=(1, high, wide))
    return Anatomy(layer, layout, config.attention_type.partition("_")[0])


def _pytorchvideo(network: Any, prefix: str = "") -> Anatomy | None:
    """The last residual stage (some networks have a pool among their stages); of SlowFast, its slow pathway."""
    kinds = {"ResStage": "", "MultiPathWayWithFuse": ".multipathway_blocks.0"}
    stages = [(i, type(block).__name__) for i, block in enumerate(network.blocks) if type(block).__name__ in kinds]
    return Anatomy(f"{prefix}blocks.{stages[-1][0]}{kinds[stages[-1][1]]}", CONV) if stages else None


def _demo_attention(network: Any) -> Anatomy:
    layout = TokenLayout("frames-in-batch", special=1, grid=_three(network.grid))
    return Anatomy(f"blocks.{len(network.blocks) - 1}.norm_space", layout, "divided")


def _three(sizes: Sequence[int]) -> tuple[int, int, int]:
    frames, height, width = sizes
    return frames, height, width


# By package and name of the class, or of one that it comes from: no library is imported.
_FAMILIES: tuple[tuple[str, str, Callable[[Any], Anatomy | None]], ...] = (
    ("torchvision.models.video", "VideoResNet", lambda _: Anatomy("layer4", CONV)),
    # The last inception block: the network pools from there on.
    ("torchvision.models.video", "S3D", lambda network: Anatomy(f"features.{len(network.features) - 1}", CONV)),
    ("torchvision.models.video", "SwinTransformer3d", lambda _: Anatomy("norm", TokenLayout("channels-last"))),
    ("torchvision.models.video", "MViT", _mvit),
    ("pytorchvideo.models", "Net", _pytorchvideo),
    ("aosa_fast", "PackedPathways", lambda network: _pytorchvideo(network.network, "network.")),
    ("aosa_fast", "HuggingFace", _hugging_face),
    ("aosa_fast", "ResNet3D", lambda _: Anatomy("layer4", CONV)),
    ("aosa_fast", "DemoNet", lambda _: Anatomy("features", CONV)),
    ("aosa_fast", "R2Plus1D", lambda _: Anatomy("features", CONV)),
    ("aosa_fast", "DemoAttention", _demo_attention),
)
