"""The second embedded classifier: a small transformer with attention divided into time and space.

Blocks as in TimeSformer (Bertasius, Wang and Torresani, "Is Space-Time Attention All You Need for Video
Understanding?", ICML 2021), made for trying out methods that read attention or tokens. Unlike `DemoNet` it is
trained on whole clips only, so that nobody has taught it how to answer to a hidden object.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from aosa_fast.demo.network import FRAMES, LOGIT_LIMIT, PREPROCESSING, SIZE, load_weights
from aosa_fast.demo.truth import CLASS_NAMES
from aosa_fast.errors import InputError

__all__ = ["PREPROCESSING", "WEIGHTS", "Attention", "Block", "DemoAttention", "SmallAttention", "load_demo_attention"]

TUBELET = (2, 8, 8)  # frames and pixels of one token
DIM = 64
HEADS = 4
DEPTH = 3
WEIGHTS = Path(__file__).parent / "attention.pt"
_FILTERS = 96
_WAVES = 3


class Attention(nn.Module):
    """Self-attention with several heads; every row of the batch is on its own."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, L, dim) to (N, L, dim)."""
        queries, keys, values = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        weights = (queries @ keys.mT / math.sqrt(queries.shape[-1])).softmax(-1)
        return cast(Tensor, self.proj((weights @ values).transpose(1, 2).flatten(2)))


class Block(nn.Module):
    """Attention along time, attention within frames, and a layer that takes each token alone; each on top of its input.

    `norm_space` gives (B*T', 1 + H'*W', dim), frames in the batch, with the class token first in each of them.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm_time = nn.LayerNorm(dim)
        self.attend_time = Attention(dim, heads)
        self.norm_space = nn.LayerNorm(dim)
        self.attend_space = Attention(dim, heads)
        self.norm_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        # At the start a block is its attention in space, which brings the evidence to the class token.
        for last in (self.attend_time.proj, cast(nn.Linear, self.mlp[2])):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, tokens: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """(B, 1 + T'*H'*W', dim) to the same shape: the class token, then the tokens by time, row and column."""
        frames, patches = grid[0], grid[1] * grid[2]
        own, video = tokens[:, :1], tokens[:, 1:].unflatten(1, (frames, patches))
        by_place = video.transpose(1, 2).flatten(0, 1)
        changed = self.attend_time(self.norm_time(by_place))
        video = video + changed.unflatten(0, (-1, patches)).transpose(1, 2)
        # Each frame has a copy of the class token; what the copies gather is averaged.
        by_frame = torch.cat([own.unsqueeze(1).expand(-1, frames, -1, -1), video], 2).flatten(0, 1)
        changed = self.attend_space(self.norm_space(by_frame)).unflatten(0, (-1, frames))
        own, video = own + changed[:, :, 0].mean(1, keepdim=True), video + changed[:, :, 1:]
        tokens = torch.cat([own, video.flatten(1, 2)], 1)
        return cast(Tensor, tokens + self.mlp(self.norm_mlp(tokens)))


class DemoAttention(nn.Module):
    """Six motions from 16 frames of 64x64 pixels, which are 8x8x8 tokens.

    Attributes:
        grid: (T', H', W'), the tokens along time, height and width.
        blocks: the transformer, `Block`s.
    """

    def __init__(self) -> None:
        super().__init__()
        frames, height, width = FRAMES // TUBELET[0], SIZE // TUBELET[1], SIZE // TUBELET[2]
        self.grid = (frames, height, width)
        # Each tubelet is an image of its own here: no pixel reaches another token than the one that it lies in.
        self.stem = nn.Sequential(
            nn.Conv2d(3 * TUBELET[0], _FILTERS, 5, bias=False),
            nn.BatchNorm2d(_FILTERS),
            nn.ReLU(),
            nn.Conv2d(_FILTERS, DIM, TUBELET[1] - 4, bias=False),
            nn.BatchNorm2d(DIM),
        )
        # Smooth over the grid at the start: neighbours are alike, and their difference points the same way everywhere.
        directions = torch.randn(3, _WAVES, DIM) * 0.4 * (2 / 3 / _WAVES) ** 0.5
        self.time = nn.Parameter(_waves(frames) @ directions[0])
        self.rows = nn.Parameter(_waves(height) @ directions[1])
        self.columns = nn.Parameter(_waves(width) @ directions[2])
        self.class_token = nn.Parameter(torch.randn(DIM) * 0.02)
        self.blocks = nn.ModuleList(Block(DIM, HEADS) for _ in range(DEPTH))
        # Over the clips of a batch: what tells clips apart is small beside what they share. In a trial with two blocks
        # the loss was 0.86 after 60 steps, and 1.65 with LayerNorm alone.
        self.norm = nn.BatchNorm1d(DIM)
        self.head = nn.Linear(DIM, len(CLASS_NAMES))
        # Filters start as temporal differences, as those of DemoNet do.
        first = cast(nn.Conv2d, self.stem[0]).weight
        with torch.no_grad():
            by_frame = first.unflatten(1, (3, TUBELET[0]))
            by_frame.sub_(by_frame.mean(dim=2, keepdim=True))

    def embed(self, video: Tensor) -> Tensor:
        """Tokens (B, T', H', W', dim) of a video (B, 3, 16, 64, 64), without their positions.

        Raises:
            InputError: clips of another shape.
        """
        if video.shape[1:] != (3, FRAMES, SIZE, SIZE):
            raise InputError(f"video must have shape (B, 3, {FRAMES}, {SIZE}, {SIZE}); got {tuple(video.shape)}")
        cut = video
        for axis, (count, part) in enumerate(zip(self.grid, TUBELET, strict=True)):
            cut = cut.unflatten(2 + 2 * axis, (count, part))
        tubelets = cut.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(0, 3).flatten(1, 2)
        tokens = self.stem(tubelets.contiguous(memory_format=torch.channels_last))
        return cast(Tensor, tokens.reshape(-1, *self.grid, DIM))

    def forward(self, video: Tensor) -> Tensor:
        """Logits of `CLASS_NAMES`, (B, 6) float32 between -3 and 3, of a video (B, 3, 16, 64, 64) float32, normalised.

        Raises:
            InputError: as `embed`.
        """
        places = self.time[:, None, None] + self.rows[:, None] + self.columns
        tokens = (self.embed(video) + places).flatten(1, 3)
        tokens = torch.cat([self.class_token.expand(len(tokens), 1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens, self.grid)
        logits = cast(Tensor, self.head(self.norm(tokens[:, 0])))
        # As in DemoNet, so that probabilities of the two compare, and gradients do not vanish on clips it is sure of.
        return LOGIT_LIMIT * torch.tanh(logits / LOGIT_LIMIT)


class SmallAttention(nn.Module):
    """A transformer of two blocks with LayerNorm, as those that people bring, from 4x8x8 tokens of 4 frames each.

    Args:
        classes: how many.
        dim: of the tokens.
    """

    grid = (4, 8, 8)

    def __init__(self, classes: int = len(CLASS_NAMES), dim: int = 48) -> None:
        super().__init__()
        frames, height, width = self.grid
        tubelet = FRAMES // frames, SIZE // height, SIZE // width
        self.tokens = nn.Conv3d(3, dim, tubelet, tubelet)
        self.places = nn.Parameter(torch.randn(frames, height * width, dim) * 0.02)
        self.own = nn.Parameter(torch.randn(dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, HEADS) for _ in range(2))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, video: Tensor) -> Tensor:
        """Logits (B, classes) of a video (B, 3, 16, 64, 64) float32, normalised."""
        tokens = (self.tokens(video).flatten(3).permute(0, 2, 3, 1) + self.places).flatten(1, 2)
        tokens = torch.cat([self.own.expand(len(tokens), 1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens, self.grid)
        return cast(Tensor, self.head(self.norm(tokens[:, 0])))


def _waves(count: int) -> Tensor:
    """(count, _WAVES): the slowest cosines over a line of `count` cells."""
    cells = (torch.arange(count) + 0.5) / count
    return torch.cos(math.pi * cells[:, None] * torch.arange(1, _WAVES + 1))


def load_demo_attention(path: Path | None = None) -> DemoAttention:
    """The trained network; `path` as in `load_demo_network`."""
    return load_weights(DemoAttention(), WEIGHTS if path is None else path)
