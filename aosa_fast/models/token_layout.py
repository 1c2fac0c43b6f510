"""Where a layer's values lie in the clip: its output, in whatever order, as a grid of time, height and width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from aosa_fast.errors import InputError

# How each order lays out its output; B, S special tokens, C channels, and the grid T', H', W'.
ORDERS = {
    "channels-first": "(B, C, T', H', W')",
    "channels-last": "(B, T', H', W', C)",
    "frames": "(BT', C, H', W')",
    "time-major": "(B, S + T'H'W', C)",
    "patch-major": "(B, S + H'W'T', C)",
    "frames-in-batch": "(BT', S + H'W', C)",
}


@dataclass(frozen=True)
class TokenLayout:
    """The order of a layer's output.

    A video's tokens come time-major (frame by frame, as in VideoMAE, ViViT and V-JEPA 2) or patch-major (all frames of
    a patch, as TimeSformer passes them on between its blocks); TimeSformer's spatial attention has the frames in the
    batch, and so have 2-D convolutions ("frames").

    Attributes:
        order: one of `ORDERS`.
        special: S, how many tokens (the class token) come before those of the video; left out of the grid.
        patch: (frames, pixels, pixels) of the clip in a token, (T', H', W') being whole patches; for the orders with
            tokens, where the grid is not fixed.
        grid: (T', H', W') where the network fixes it.
    """

    order: str
    special: int = 0
    patch: tuple[int, int, int] | None = None
    grid: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise InputError(f"order must be one of {', '.join(ORDERS)}; got {self.order}")
        if self.order not in ("channels-first", "channels-last", "frames") and not (self.patch or self.grid):
            raise InputError(f"layout must have a patch or a grid for order {self.order}; got neither")

    def grid_of(self, video_shape: Sequence[int]) -> tuple[int, int, int]:
        """(T', H', W') of the tokens of a clip; only for the orders with tokens.

        Args:
            video_shape: (B, C, T, H, W).
        """
        if self.grid:
            return self.grid
        assert self.patch
        frames, height, width = (size // part for size, part in zip(video_shape[2:], self.patch, strict=True))
        return frames, height, width

    def to_grid(self, output: Tensor, video_shape: Sequence[int]) -> Tensor:
        """A view of the output as (B, C, T', H', W'); serves activations and their gradients alike.

        Args:
            output: what the layer gives, in this order.
            video_shape: (B, C, T, H, W) of the clips that went into the network.

        Raises:
            InputError: an output of another shape, such as a token too many.
        """
        clips = video_shape[0]
        if self.order in ("channels-first", "channels-last"):
            self._check(output, output.ndim == 5 and len(output) == clips, f"B={clips}")
            return output if self.order == "channels-first" else output.movedim(-1, 1)
        if self.order == "frames":
            self._check(output, output.ndim == 4 and len(output) % clips == 0, f"B={clips}")
            return output.unflatten(0, (clips, -1)).movedim(2, 1)
        frames, height, width = self.grid_of(video_shape)
        rows, cells = (clips * frames, 1) if self.order == "frames-in-batch" else (clips, frames)
        fits = output.ndim == 3 and output.shape[:2] == (rows, self.special + cells * height * width)
        self._check(output, fits, f"B={clips}, S={self.special} and grid {(frames, height, width)}")
        video = output[:, self.special :]
        if self.order == "time-major":
            return video.unflatten(1, (frames, height, width)).movedim(-1, 1)
        if self.order == "patch-major":
            return video.unflatten(1, (height, width, frames)).permute(0, 4, 3, 1, 2)
        return video.unflatten(0, (clips, frames)).unflatten(2, (height, width)).movedim(-1, 1)

    def _check(self, output: Tensor, fits: bool, sizes: str) -> None:
        if not fits:
            raise InputError(
                f"layer's output must be {self.order}, {ORDERS[self.order]} with {sizes}; got {tuple(output.shape)}"
            )
