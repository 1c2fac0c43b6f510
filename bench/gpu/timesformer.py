"""TimeSformer with divided space-time attention on a ViT-B/16, randomly initialised (Bertasius et al., ICML 2021).

Speed and memory do not depend on the weights, so the benchmarks need no download.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

PATCH = 16  # pixels a side


class Attention(nn.Module):
    """Multi-head self-attention over the axis before the last."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(R, tokens, width) to the same; the R rows do not see each other."""
        rows, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(rows, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        return self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(rows, tokens, width))


class Block(nn.Module):
    """Attention along time, then over each frame together with the class token, then an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.time_norm, self.time = nn.LayerNorm(width), Attention(width, heads)
        self.time_out = nn.Linear(width, width)
        self.space_norm, self.space = nn.LayerNorm(width), Attention(width, heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, token: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Class token (B, 1, width) and patches (B, T, P, width) to the same."""
        B, T, P, width = patches.shape
        along = patches.transpose(1, 2).reshape(B * P, T, width)
        along = self.time_out(self.time(self.time_norm(along)))
        patches = patches + along.reshape(B, P, T, width).transpose(1, 2)
        frames = torch.cat([token.unsqueeze(1).expand(B, T, 1, width), patches], dim=2)
        seen = self.space(self.space_norm(frames.reshape(B * T, 1 + P, width))).reshape(B, T, 1 + P, width)
        token, patches = token + seen[:, :, 0].mean(1, keepdim=True), patches + seen[:, :, 1:]
        return token + self.mlp(token), patches + self.mlp(patches)


class TimeSformer(nn.Module):
    """Maps (B, 3, T, H, W) to (B, classes) logits; the defaults are the paper's base model, 121 M parameters."""

    def __init__(
        self, classes: int = 400, frames: int = 8, side: int = 224, width: int = 768, depth: int = 12, heads: int = 12
    ) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, width, PATCH, stride=PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.token_place = nn.Parameter(torch.zeros(1, 1, width))
        self.places = nn.Parameter(torch.zeros(1, 1, (side // PATCH) ** 2, width))
        self.moments = nn.Parameter(torch.zeros(1, frames, 1, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, T, H, W) to (B, classes)."""
        B, _, T = x.shape[:3]
        patches = self.patch(x.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2).unflatten(0, (B, T))
        patches = patches + self.places + self.moments
        token = (self.token + self.token_place).expand(B, -1, -1)
        for block in self.blocks:
            token, patches = block(token, patches)
        return self.head(self.norm(token[:, 0]))


def timesformer(seed: int = 0, **sizes: int) -> TimeSformer:
    """A seeded TimeSformer in evaluation mode, with the usual initialisation of vision transformers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = TimeSformer(**sizes)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
    return model.eval()
