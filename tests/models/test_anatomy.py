from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from tiny_transformers import tiny_clips, tiny_mvit, tiny_network, tiny_swin
from torch import Tensor, nn
from torchvision.models import get_model

from aosa_fast.demo.attention import DemoAttention
from aosa_fast.demo.network import DemoNet
from aosa_fast.errors import InputError
from aosa_fast.models.anatomy import Anatomy, find_anatomy, unwrap
from aosa_fast.models.pytorchvideo_models import PackedPathways
from aosa_fast.models.resnet3d import ResNet3D
from aosa_fast.models.token_layout import TokenLayout
from small_nets import silence

VIDEO = (2, 3, 4, 18, 40)  # with patches of (2, 6, 8): T' = 2, H' = 3, W' = 5
GRID = (2, 3, 5)
PATCH = (2, 6, 8)


def places(clips: int = VIDEO[0], grid: tuple[int, int, int] = GRID) -> Tensor:
    """(B, 4, T', H', W'): each place says its clip, time, row and column."""
    return torch.stack(torch.meshgrid(*map(torch.arange, (clips, *grid)), indexing="ij"), 1)


def special(rows: int, count: int = 1) -> Tensor:
    return torch.full((rows, count, 4), -1)


@pytest.mark.parametrize("given", [{"patch": PATCH}, {"grid": GRID}], ids=["patch", "grid"])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_tokens_lie_where_the_order_says(given: dict[str, Any], count: int):
    by_hand = [("time-major", (b, t, y, x)) for b, t, y, x in itertools.product(*map(range, (2, *GRID)))]
    time_major = torch.tensor([place for _, place in by_hand]).reshape(2, -1, 4)
    patch_major = torch.tensor(
        [(b, t, y, x) for b, y, x, t in itertools.product(range(2), range(3), range(5), range(2))]
    ).reshape(2, -1, 4)
    frames = time_major.reshape(4, 15, 4)
    outputs = {
        "time-major": torch.cat([special(2, count), time_major], 1),
        "patch-major": torch.cat([special(2, count), patch_major], 1),
        "frames-in-batch": torch.cat([special(4, count), frames], 1),
    }
    for order, output in outputs.items():
        layout = TokenLayout(order, special=count, **given)
        assert layout.grid_of(VIDEO) == GRID
        assert torch.equal(layout.to_grid(output, VIDEO), places()), order


def test_maps_without_tokens():
    assert torch.equal(TokenLayout("channels-first").to_grid(places(), VIDEO), places())
    assert torch.equal(TokenLayout("channels-last").to_grid(places().permute(0, 2, 3, 4, 1), VIDEO), places())


@pytest.mark.parametrize(
    ("order", "shape"),
    [
        ("channels-first", (2, 31, 4)),
        ("channels-first", (1, 4, 2, 3, 5)),
        ("channels-last", (2, 30, 4)),
        ("time-major", (2, 30, 4)),
        ("time-major", (2, 32, 4)),
        ("time-major", (1, 31, 4)),
        ("time-major", (2, 31)),
        ("time-major", (2, 31, 4, 1)),
        ("patch-major", (2, 30, 4)),
        ("patch-major", (4, 16, 4)),
        ("frames-in-batch", (2, 31, 4)),
        ("frames-in-batch", (4, 15, 4)),
        ("frames-in-batch", (8, 16, 4)),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(order: str, shape: tuple[int, ...]):
    with pytest.raises(InputError, match=f"layer's output must be {order}, .*; got") as caught:
        TokenLayout(order, special=1, patch=PATCH).to_grid(torch.zeros(shape), VIDEO)
    assert "\n" not in str(caught.value)


def test_layouts_that_say_too_little_are_refused():
    with pytest.raises(InputError, match="order must be one of"):
        TokenLayout("rows")
    with pytest.raises(InputError, match="layout must have a patch or a grid for order time-major"):
        TokenLayout("time-major")


# The delta-pixel tests: one patch of one frame of one clip is changed, and exactly its place of the grid must change.


class Patches(nn.Module):
    """A convolutional network whose cells don't overlap, and which says its own anatomy."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv3d(3, 8, (2, 4, 8), (2, 4, 8)), nn.BatchNorm3d(8))
        self.head = nn.Linear(8, 6)
        self.anatomy = Anatomy("layer", TokenLayout("channels-first"))

    def forward(self, video: Tensor) -> Tensor:
        return self.head(self.layer(video).relu_().mean((2, 3, 4)))


def changed(network: nn.Module, anatomy: Anatomy, video: Tensor, where: tuple[Any, ...]) -> list[list[int]]:
    seen: list[Tensor] = []
    layer = network.get_submodule(anatomy.layer)
    handle = layer.register_forward_hook(lambda _m, _i, output: seen.append(output.detach()))
    other = video.clone()
    other[where] += 30 * torch.randn(other[where].shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        network(video)
        network(other)
    handle.remove()
    before, after = (anatomy.layout.to_grid(output, video.shape) for output in seen)
    return torch.nonzero((before != after).any(1)).tolist()


def check_deltas(network: nn.Module, anatomy: Anatomy, sizes: tuple[int, ...], patch: tuple[int, ...], part: float):
    """`part` is how much of the patch's height and width is changed."""
    video = torch.randn(2, 3, *sizes, generator=torch.Generator().manual_seed(1))
    T, H, W = (size // side for size, side in zip(sizes, patch, strict=True))
    for t, y, x in [(0, 0, 0), (T - 1, 0, 0), (0, H - 1, 0), (0, 0, W - 1), (T - 1, H // 2, 1), (T // 2, H - 1, W - 2)]:
        rows = slice(y * patch[1], int((y + part) * patch[1]))
        columns = slice(x * patch[2], int((x + part) * patch[2]))
        # One frame of a tubelet is enough.
        where = (1, slice(None), t * patch[0], rows, columns)
        assert changed(network, anatomy, video, where) == [[1, t, y, x]]


HF_PATCHES = {
    "timesformer": (1, 8, 8),
    "timesformer-joint": (1, 8, 8),
    "videomae": (2, 8, 4),
    "vivit": (2, 8, 4),
    "vjepa2": (2, 4, 4),
}
MIXED = {
    "timesformer": ("model.timesformer.encoder.layer.0.temporal_dense",),
    "vjepa2": (
        "model.vjepa2.encoder.layer.0.attention.proj",
        "model.pooler.self_attention_layers.0.self_attn.out_proj",
    ),
}
SWIN = ("features.0.0.attn.proj", "features.0.0.mlp", "features.0.1.attn.proj", "features.0.1.mlp")
# Network, the layer, what mixes places before it and is turned off, T, H and W of the clips, the patch, and `part`.
DELTAS = {
    **{
        family: (
            partial(tiny_network, family, num_hidden_layers=1),
            "layer_norm1" if family == "vjepa2" else "layernorm_before",
            MIXED.get(family, ()),
            tiny_clips(family).shape[2:],
            patch,
            1,
        )
        for family, patch in HF_PATCHES.items()
    },
    "mvit": (tiny_mvit, "blocks.1.norm1", ("blocks.0.attn.project", "blocks.0.mlp"), (4, 24, 40), (2, 4, 4), 1),
    # The pool takes the maximum of 3 x 3 around every second token: only that one is changed.
    "pooled mvit": (
        partial(tiny_mvit, 2),
        "blocks.1.norm1",
        ("blocks.0.attn.project", "blocks.0.mlp"),
        (4, 24, 40),
        (2, 8, 8),
        1 / 2,
    ),
    "swin": (tiny_swin, "norm", SWIN, (4, 24, 40), (2, 4, 8), 1),
    "convolution": (Patches, "layer", (), (4, 24, 40), (2, 4, 8), 1),
    "demo": (
        DemoAttention,
        "blocks.2.norm_space",
        tuple(f"blocks.{i}.attend_{where}" for i in range(3) for where in ("time", "space")),
        (16, 64, 64),
        (2, 8, 8),
        1,
    ),
}


@pytest.mark.parametrize("name", DELTAS)
def test_a_patch_is_its_token(name: str):
    build, layer, silent, sizes, patch, part = DELTAS[name]
    torch.manual_seed(0)
    network = build().eval()
    silence(*map(network.get_submodule, silent))
    anatomy = find_anatomy(network)
    assert anatomy.layer.endswith(layer)
    check_deltas(network, anatomy, sizes, patch, part)


def test_timesformer_hands_on_patch_by_patch():
    layout = TokenLayout("patch-major", special=1, patch=(1, 8, 8))
    anatomy = Anatomy("model.timesformer.embeddings", layout)
    check_deltas(tiny_network("timesformer"), anatomy, (3, 48, 32), (1, 8, 8), 1)


TINY: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    **{family: (partial(tiny_network, family, 3.0), tiny_clips(family).shape) for family in HF_PATCHES},
    "mvit": (partial(tiny_mvit, 2), (2, 3, 4, 24, 40)),
    "swin": (tiny_swin, (2, 3, 4, 24, 40)),
}


@pytest.mark.parametrize("family", TINY)
def test_every_place_of_the_layer_reaches_the_class_score(family: str):
    network, video = TINY[family][0](), torch.randn(TINY[family][1])
    anatomy = find_anatomy(network)
    seen: list[Tensor] = []
    network.get_submodule(anatomy.layer).register_forward_hook(lambda _m, _i, output: seen.append(output))
    logits = network(video)
    (grad,) = torch.autograd.grad(logits[:, 1].sum(), seen[0])
    reached = anatomy.layout.to_grid(grad, video.shape).abs().amax(1)
    assert reached.min() > 1e-4 * reached.max()


# Real networks, without their numbers: on the meta device, only shapes are computed.


def pytorchvideo_network(name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.models import hub

    network: nn.Module = getattr(hub, name)(pretrained=False)
    return PackedPathways(network) if name.startswith("slowfast") else network


FULL = {
    "r3d_18": ("layer4", (16, 112, 112), (512, 2, 7, 7)),
    "mc3_18": ("layer4", (16, 112, 112), (512, 16, 7, 7)),
    "r2plus1d_18": ("layer4", (16, 96, 128), (512, 2, 6, 8)),
    "s3d": ("features.15", (16, 224, 256), (1024, 2, 7, 8)),
    "mvit_v1_b": ("blocks.15.norm1", (16, 224, 224), (768, 8, 7, 7)),
    "mvit_v2_s": ("blocks.15.norm1", (16, 224, 224), (768, 8, 7, 7)),
    "swin3d_t": ("norm", (16, 224, 192), (768, 8, 7, 6)),
    "r3d50": ("layer4", (16, 112, 112), (2048, 1, 4, 4)),
    "slow_r50": ("blocks.4", (8, 256, 256), (2048, 8, 8, 8)),
    "c2d_r50": ("blocks.5", (8, 256, 256), (2048, 4, 8, 8)),
    "i3d_r50": ("blocks.5", (8, 256, 256), (2048, 4, 8, 8)),
    "r2plus1d_r50": ("blocks.4", (16, 256, 256), (2048, 4, 8, 8)),
    "x3d_s": ("blocks.4", (13, 182, 182), (192, 13, 6, 6)),
    "slowfast_r50": ("network.blocks.4.multipathway_blocks.0", (32, 256, 256), (2048, 8, 8, 8)),
}


@pytest.mark.parametrize("name", FULL)
def test_the_layer_of_the_real_networks_gives_the_grid_that_it_should(name: str):
    layer, sizes, expected = FULL[name]
    with torch.device("meta"):
        if name == "r3d50":
            network: nn.Module = ResNet3D(50, factorised=False, n_classes=400)
        else:
            network = pytorchvideo_network(name) if name.endswith(("r50", "x3d_s")) else get_model(name)
        anatomy = find_anatomy(network.eval())
        assert anatomy.layer == layer
        assert anatomy.attention is None
        seen: list[Tensor] = []
        network.get_submodule(layer).register_forward_hook(lambda _m, _i, output: seen.append(output))
        video = torch.zeros(2, 3, *sizes)
        with torch.no_grad():
            assert network(video).shape == (2, 400)
        assert anatomy.layout.to_grid(seen[0], video.shape).shape == (2, *expected)


def test_the_embedded_networks():
    assert find_anatomy(DemoNet()) == Anatomy("features", TokenLayout("channels-first"))
    assert find_anatomy(DemoAttention()).attention == "divided"


@pytest.mark.parametrize("family", HF_PATCHES)
def test_the_kind_of_attention(family: str):
    anatomy = find_anatomy(tiny_network(family))
    assert anatomy.attention == {"timesformer": "divided", "vjepa2": "pooled"}.get(family, "joint")
    assert ".1." in anatomy.layer or family == "vjepa2"


def test_wrapped_networks_are_looked_into():
    network = DemoNet()
    wrapped = nn.DataParallel(torch.compile(network))
    assert unwrap(wrapped) is network
    assert find_anatomy(wrapped) == find_anatomy(network)

    class Mine(DemoNet):
        pass

    assert find_anatomy(Mine()) == find_anatomy(network)


def test_unknown_networks_have_none():
    class VideoResNet(nn.Module):
        """The name alone is not enough."""

    assert find_anatomy(VideoResNet()) is None
    assert find_anatomy(nn.Sequential()) is None
    assert find_anatomy(tiny_network("timesformer", attention_type="space_only")) is None
