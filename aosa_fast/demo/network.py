"""The embedded classifier: a small 3-D convolutional network that names the motion in rendered clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar, cast

import numpy as np
import torch
from torch import nn

from aosa_fast.demo.render import render_clip
from aosa_fast.demo.truth import CLASS_NAMES
from aosa_fast.errors import InputError
from aosa_fast.libraries import cv2
from aosa_fast.models.preprocess import Preprocessing

# The mean and the spread of 300 rendered training clips, as fractions of 255.
MEAN = (0.47, 0.42, 0.405)
STD = (0.158, 0.137, 0.146)
FRAMES = 16
SIZE = 64
PREPROCESSING = Preprocessing(frames=FRAMES, stride=1, size=SIZE, crop=(SIZE, SIZE), mean=MEAN, std=STD)
Network = TypeVar("Network", bound=nn.Module)
LOGIT_LIMIT = 3.0  # no probability can be above 0.988
WEIGHTS = Path(__file__).parent / "weights.pt"


class DemoNet(nn.Module):
    """Motions from 16 frames of 64x64 pixels; `features` ends in a (B, 96, 8, 8, 8) map for Grad-CAM.

    Args:
        widths: channels after each of the four layers.
        classes: how many.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 64, 96), classes: int = len(CLASS_NAMES)) -> None:
        super().__init__()
        first, second, third, last = widths
        self.features = nn.Sequential(
            *_block(3, first, (3, 7, 7), (1, 4, 4)),
            *_block(first, second, (3, 3, 3), (2, 2, 2)),
            *_block(second, third, (3, 3, 3), (1, 1, 1)),
            *_block(third, last, (3, 3, 3), (1, 1, 1)),
        )
        self.head = nn.Linear(last, classes)
        # Filters start as temporal differences, blind to what stands still: after 100 steps of 24 clips the training
        # loss was 1.01 instead of 1.80 (chance is 1.79).
        filters = cast(nn.Conv3d, self.features[0]).weight
        with torch.no_grad():
            filters.sub_(filters.mean(dim=2, keepdim=True))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        """Logits, of `CLASS_NAMES` in the embedded network.

        Args:
            video: (B, 3, 16, 64, 64) float32, normalised.

        Returns:
            (B, classes) float32, between -3 and 3.
        """
        pooled = self.features(video).mean(dim=(2, 3, 4))
        logits = cast(torch.Tensor, self.head(pooled))
        # Bounded: label smoothing alone let p reach 0.9995 on single clips, where gradients say little.
        return LOGIT_LIMIT * torch.tanh(logits / LOGIT_LIMIT)


def _block(
    inputs: int, outputs: int, kernel: tuple[int, int, int], stride: tuple[int, int, int]
) -> tuple[nn.Module, ...]:
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    conv = nn.Conv3d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False)
    # Not in place: hooks may want what the ReLU sees.
    return conv, nn.BatchNorm3d(outputs), nn.ReLU()


def to_input(frames: np.ndarray) -> torch.Tensor:
    """Frames as the network expects them: area-resized to 64x64 pixels and normalised.

    Args:
        frames: (T, H, W, 3) uint8, RGB.

    Returns:
        (1, 3, T, 64, 64) float32; 0 is the mean colour.

    Raises:
        InputError: if `frames` is not (T, H, W, 3).
        TypeError: if `frames` is not uint8.
    """
    if frames.ndim != 4 or frames.shape[3] != 3:
        raise InputError(f"frames must have shape (T, H, W, 3); got {frames.shape}")
    if frames.dtype != np.uint8:
        raise TypeError(f"frames must be uint8; got {frames.dtype}")
    if frames.shape[1:3] != (SIZE, SIZE):
        frames = np.stack([cv2.resize(f, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for f in frames])
    return PREPROCESSING.to_input(frames)


def load_demo_network(path: Path | None = None) -> DemoNet:
    """The trained network on the CPU, in eval mode and without gradients of its weights.

    Args:
        path: a file written by `aosa_fast.demo.train`; None takes the embedded one.
    """
    return load_weights(DemoNet(), WEIGHTS if path is None else path)


def load_weights(net: Network, path: Path) -> Network:
    """A network with the weights that `aosa_fast.demo.train` wrote, in eval mode and without gradients of them."""
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["state"])
    return net.eval().requires_grad_(False)


def hide(video: torch.Tensor, boxes: np.ndarray) -> None:
    """Set one box in every frame to the mean colour, in place.

    Args:
        video: (3, T, H, W) float32, normalised.
        boxes: (T, 4) integer, `(x0, y0, x1, y1)`, half-open.
    """
    for t, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
        video[:, t, max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = 0


@torch.inference_mode()
def evaluate(
    net: nn.Module, seeds: Sequence[int], size: int = SIZE, occlude: str = "", kind: str = "one"
) -> np.ndarray:
    """Probabilities on unseen clips.

    Args:
        net: in eval mode.
        seeds: of the test clips.
        size: the side that they are rendered at, pixels, before they are area-resized to 64.
        occlude: "" for nothing, "object" or "distractor" for a box that is hidden in all frames.
        kind: of the scenes.

    Returns:
        (n, 6) float32, rolled so that column 0 is the true class.
    """
    rows = []
    for seed in seeds:
        clip = render_clip(seed, size=size, split="test", kind=kind)
        video = to_input(clip.frames)
        if occlude:
            boxes = clip.boxes if occlude == "object" else clip.static_boxes[0]
            hide(video[0], boxes * SIZE // size)
        rows.append(np.roll(net(video).softmax(dim=1)[0].numpy(), -clip.label))
    return np.stack(rows)


def report(net: nn.Module, clips: int = 300, kind: str = "one") -> dict[str, float]:
    """Accuracy on `clips` unseen clips at 64 pixels and a third of that at 256, and what hiding a part does.

    Args:
        net: in eval mode.
        clips: how many.
        kind: of the scenes.

    Returns:
        Probabilities and fractions by name.
    """
    plain = evaluate(net, range(clips), kind=kind)
    large = evaluate(net, range(clips, clips + max(1, clips // 3)), size=4 * SIZE, kind=kind)
    numbers = {
        "accuracy": (plain.argmax(axis=1) == 0).mean(),
        "accuracy_256": (large.argmax(axis=1) == 0).mean(),
        "mean_p": plain[:, 0].mean(),
        "max_p": plain.max(),
    }
    for hidden in ("object", "distractor"):
        left = evaluate(net, range(clips), occlude=hidden, kind=kind)[:, 0]
        numbers[f"mean_p_{hidden}_hidden"] = left.mean()
        numbers[f"collapsed_{hidden}_hidden"] = (left < 0.5 * plain[:, 0]).mean()
    return {name: float(value) for name, value in numbers.items()}
