"""pytorchvideo's models, as its hub makes them."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from aosa_fast.errors import InputError
from aosa_fast.libraries import check_libraries
from aosa_fast.models.checkpoints import count_classes, downloaded, network_with, parts_of
from aosa_fast.models.classifier import Classifier, read_class_names
from aosa_fast.models.preprocess import Preprocessing

# (frames, stride, side of the square crop), the short side being resized to that too: pytorchvideo's model zoo and the
# examples of its models on torch.hub.
SAMPLING = {
    "slow_r50": (8, 8, 256),
    "c2d_r50": (8, 8, 256),
    "i3d_r50": (8, 8, 256),
    "r2plus1d_r50": (16, 4, 256),
    "slowfast_r50": (32, 2, 256),
    "slowfast_r101": (32, 2, 256),
    "x3d_xs": (4, 12, 182),
    "x3d_s": (13, 6, 182),
    "x3d_m": (16, 5, 256),
}
ALPHA = 4  # frames of the fast pathway to one of the slow, in SlowFast 8x8


class PackedPathways(nn.Module):
    """SlowFast on one clip, from which the slow pathway's frames are picked.

    A clip that is occluded is occluded in both pathways, and a gradient is that of the clip.

    Attributes:
        network: maps a list [slow (B, 3, T // 4, H, W), fast (B, 3, T, H, W)] to logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, video: Tensor) -> Tensor:
        """Logits (B, n_classes) of a video (B, 3, T, H, W).

        Raises:
            InputError: T is not a multiple of 4.
        """
        frames = video.shape[2]
        if frames % ALPHA or not frames:
            raise InputError(f"video must have a multiple of {ALPHA} frames for SlowFast; got {frames}")
        # On the CPU always, so that the frames are the same on every device.
        chosen = torch.linspace(0, frames - 1, frames // ALPHA, device="cpu").long().to(video.device)
        logits: Tensor = self.network([video.index_select(2, chosen), video])
        return logits


def load_pytorchvideo(spec: str, rest: str) -> Classifier:
    """Loads one of pytorchvideo's models.

    The networks return logits: the softmax at the end of its X3D and R(2+1)D is left out. On crops larger than those of
    training they average logits over places, where its average probabilities: the two differ a little.

    Args:
        rest: NAME[:WEIGHTS[:NAMES]], NAME being one of `SAMPLING`. WEIGHTS is "random" or a checkpoint file, with as
            many classes as it has; by default the hub's file, trained on Kinetics-400. NAMES is for `read_class_names`.

    Raises:
        InputError: no pytorchvideo, no such model, weights that are not on this machine or do not fit.
    """
    name, weights, names = parts_of(rest)
    if name not in SAMPLING:
        raise InputError(f"model={spec} must name one of {', '.join(SAMPLING)}; got {name}")
    builder = _builder(spec, name)
    options: dict[str, Any] = {"head_activation": None} if name.startswith(("x3d", "r2plus1d")) else {}
    if name.startswith("x3d"):
        options["inner_act"] = nn.SiLU  # the same as pytorchvideo's Swish, whose backward uses what PyTorch deprecates

    def build(classes: int) -> nn.Module:
        network: nn.Module = builder(model_num_class=classes, **options)
        return network

    weights = weights or downloaded(spec, sys.modules[builder.__module__].checkpoint_paths[name])
    network = network_with(weights, build, f"model={spec} must name a checkpoint file or random")
    class_names = read_class_names(names, count_classes(network)) if names else None
    if name.startswith("slowfast"):
        network = PackedPathways(network).eval()
    frames, stride, side = SAMPLING[name]
    preprocessing = Preprocessing(frames, stride, side, (side, side), mean=(0.45,) * 3, std=(0.225,) * 3)
    return Classifier(network, preprocessing, class_names)


def _builder(spec: str, name: str) -> Any:
    # Without the warnings of its import: a library of its own calls torch.jit.script.
    check_libraries("pytorchvideo.models", "pytorchvideo.models.hub", extra="models", what=f"model={spec}")
    from pytorchvideo.models import hub

    return getattr(hub, name)
