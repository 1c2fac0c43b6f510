"""Transformers of two blocks, and clips for them: T' != H' != W' where the family has it, and six classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from torchvision.models.video.mvit import MSBlockConfig, MViT
from torchvision.models.video.swin_transformer import SwinTransformer3d
from transformers import utils

from aosa_fast.models.huggingface import HuggingFace

FAMILIES = ("timesformer", "timesformer-joint", "videomae", "vivit", "vjepa2")


def tiny_config(family: str, **changes: Any) -> Any:
    common = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    if family.startswith("timesformer"):
        kind = "joint_space_time" if family.endswith("joint") else "divided_space_time"
        own = {"image_size": 32, "patch_size": 8, "num_frames": 3, "attention_type": kind}
        make = transformers.TimesformerConfig
    elif family == "videomae":
        own = {"image_size": [24, 40], "patch_size": [8, 4], "num_frames": 8, "tubelet_size": 2}
        make = transformers.VideoMAEConfig
    elif family == "vivit":
        own = {"image_size": [24, 40], "tubelet_size": [2, 8, 4], "num_frames": 8}
        make = transformers.VivitConfig
    else:
        # Heads of 12 channels, which turn by their frame, row and column.
        own = {"crop_size": 16, "patch_size": 4, "frames_per_clip": 6, "num_pooler_layers": 1, "hidden_size": 24}
        own |= {"pred_hidden_size": 24, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
        common.pop("intermediate_size")
        make = transformers.VJEPA2Config
    return make(**{**common, **own, "num_labels": 6, **changes})


def tiny_network(family: str, sharpness: float = 1.0, seed: int = 0, **changes: Any) -> HuggingFace:
    """Random weights; `sharpness` scales all of them, so that attention is not the same everywhere."""
    torch.manual_seed(seed)
    model = transformers.AutoModelForVideoClassification.from_config(tiny_config(family, **changes))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.copy_(sharpness * 0.1 * torch.randn_like(parameter))
    return HuggingFace(model).eval()


def save(network: HuggingFace, folder: Path) -> Path:
    """As `save_pretrained` does, without its bars."""
    bars = utils.logging.is_progress_bar_enabled()
    utils.logging.disable_progress_bar()
    network.model.save_pretrained(folder)
    if bars:
        utils.logging.enable_progress_bar()
    return folder


def tiny_clips(family: str, clips: int = 2, seed: int = 1) -> Tensor:
    """TimeSformer stretches its embeddings to a height that is not the width."""
    shape = {"timesformer": (3, 48, 32), "vjepa2": (6, 16, 16)}.get(family.partition("-")[0], (8, 24, 40))
    return torch.randn(clips, 3, *shape, generator=torch.Generator().manual_seed(seed))


def tiny_mvit(stride: int = 1) -> MViT:
    """For clips of 4x24x40; a patch is (2, 4, 4), and the first of two blocks pools height and width."""
    torch.manual_seed(0)
    settings = [
        MSBlockConfig(2, 8, 8, [3, 3, 3], [3, 3, 3], [1, step, step], [1, 1, 1]) for step in (stride, 1)
    ]  # fmt: skip
    network = MViT(
        (24, 40), 4, settings, residual_pool=False, residual_with_cls_embed=True, rel_pos_embed=False,
        proj_after_attn=False, num_classes=6, patch_embed_kernel=(2, 4, 4), patch_embed_stride=(2, 4, 4),
        patch_embed_padding=(0, 0, 0),
    )  # fmt: skip
    return network.eval()


def tiny_swin() -> SwinTransformer3d:
    """For clips of any size."""
    torch.manual_seed(0)
    return SwinTransformer3d([2, 4, 8], 8, [2], [2], [2, 3, 3], num_classes=6).eval()
