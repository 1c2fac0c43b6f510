"""What an explanation holds, and how it is kept and shown."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.maps import make_map
from aosa_fast.targets import ResolvedTarget, Target, resolve_target
from aosa_fast.tubes import Tubes

UNITS = {"prob": "drop of the probability", "logit": "drop of the logit", "logprob": "drop of the log-probability",
         "margin": "drop of the margin"}  # fmt: skip


@dataclass(eq=False)
class Explanation:
    """A saliency video and all that led to it, for a batch of B clips.

    Attributes:
        saliency: (B, T, H, W) float32, signed, in units of the score; comparable across clips.
        scores: (B, N) float32, importance of each tube: the drop of the score when it is hidden.
        tracks: (B, N, T, 2) float32, (x, y) of each anchor, pixels.
        alive: (B, N, T) bool, False once the anchor has left the frame.
        boxes: (B, N, T, 4) int32, (x0, y0, x1, y1), pixels, half-open; empty where not alive.
        members: (B, N, K+1) int32, rows of `boxes` joined into each tube; -1 pads.
        coverage: (B, T, H, W) int32, how many tubes cover each voxel. Where 0, the map says nothing.
        clean_scores: (B, n_classes) float32, score of every class for the whole clip.
        class_score_samples: (B, N, S, n_classes) float32, score of every class with each tube hidden (exact method
            only, else None); S random fills, or 1.
        relevance: (B, T, H, W) float32, the field that the tubes integrate (first-order methods only, else None).
        target: the explained class indices.
        frames: (B, T, H, W, 3) uint8, the pictures that the optical flow saw.
        config: every choice.
        metadata: the same in plain types, with versions, timings per stage in seconds, predictions and self-checks.
    """

    saliency: Tensor
    scores: Tensor
    tracks: Tensor
    alive: Tensor
    boxes: Tensor
    members: Tensor
    coverage: Tensor
    clean_scores: Tensor
    class_score_samples: Tensor | None
    relevance: Tensor | None
    target: ResolvedTarget
    frames: NDArray[np.uint8]
    config: Config
    class_names: tuple[str, ...] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def class_scores(self) -> Tensor | None:
        """(B, N, n_classes): score of every class with each tube hidden, the mean over random fills; exact only."""
        return None if self.class_score_samples is None else self.class_score_samples.mean(2)

    @property
    def standard_error(self) -> Tensor | None:
        """(B, N): standard error of `scores` over the random fills; None without any."""
        if self.class_score_samples is None or self.class_score_samples.shape[2] < 2:
            return None
        drawn = self.target.pick(self.class_score_samples)
        error: Tensor = drawn.std(dim=2) / drawn.shape[2] ** 0.5
        return error

    def for_target(self, target: Target) -> Explanation:
        """The explanation of another class, or of a `Difference`, from the same sweep: no further forward.

        Raises:
            InputError: the method was not exact AOSA, or the target is out of range.
        """
        if self.class_score_samples is None or self.class_scores is None:
            raise InputError(f"for_target must have the class scores of method=aosa; got {self.config.method}")
        resolved = resolve_target(target, self.clean_scores, self.class_names)
        clean = resolved.pick(self.clean_scores)
        scores = clean.unsqueeze(1) - resolved.pick(self.class_scores)
        tubes = Tubes(self.tracks, self.alive, self.boxes, self.members)
        height, width = self.saliency.shape[2:]
        saliency, coverage = make_map(scores, clean, tubes, self.config, height, width)
        metadata = {
            **self.metadata,
            "target": resolved.names(self.class_names),
            "target_index": resolved.index.tolist(),
            "minus_index": None if resolved.minus is None else resolved.minus.tolist(),
        }
        parts = {**self.__dict__, "saliency": saliency, "scores": scores, "coverage": coverage, "target": resolved}
        return Explanation(**{**parts, "metadata": metadata})

    def save(self, path: str | PathLike[str]) -> None:
        """Writes everything to one `.npz` file, under a temporary name first.

        Raises:
            InputError: the folder cannot be written, the disk is full, or the suffix is not .npz.
        """
        from aosa_fast.video import atomic_path

        if not str(path).endswith(".npz"):
            raise InputError(f"{path}: must end in .npz")
        arrays: dict[str, Any] = {name: getattr(self, name).numpy() for name in _TENSORS}
        for name in _OPTIONAL:
            if getattr(self, name) is not None:
                arrays[name] = getattr(self, name).numpy()
        if isinstance(self.config.fill, Tensor):
            arrays["fill"] = self.config.fill.numpy()
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, frames=self.frames, metadata=np.array(json.dumps(self.metadata)), **arrays)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Explanation:
        """Reads what `save` wrote.

        Raises:
            InputError: the file is missing or is not an explanation.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            metadata = json.loads(str(arrays["metadata"]))
            tensors: dict[str, Any] = {name: torch.from_numpy(arrays[name]) for name in _TENSORS}
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (OSError, KeyError, ValueError, EOFError) as error:
            raise InputError(f"{path}: must be an explanation saved by aosa_fast; {error}") from None
        optional: dict[str, Any] = {
            name: torch.from_numpy(arrays[name]) if name in arrays else None for name in _OPTIONAL
        }
        choices = {**metadata["config"], "box": tuple(metadata["config"]["box"])}
        if "fill" in arrays:
            choices["fill"] = torch.from_numpy(arrays["fill"])
        minus = metadata["minus_index"]
        return cls(
            **tensors,
            **optional,
            target=ResolvedTarget(
                torch.tensor(metadata["target_index"]), None if minus is None else torch.tensor(minus)
            ),
            frames=arrays["frames"],
            config=Config(**choices),
            class_names=tuple(metadata["class_names"]) if metadata["class_names"] else None,
            metadata=metadata,
        )

    def save_overlay(
        self,
        path: str | PathLike[str],
        *,
        clip: int = 0,
        frames: NDArray[np.uint8] | None = None,
        boxes: NDArray[np.int32] | None = None,
        fps: float = 8.0,
    ) -> None:
        """Paints the map over the frames: a video for .mp4, .mkv, .mov, .webp or .gif, a contact sheet for .png.

        Colours are scaled to the clip's own largest values; the contact sheet's bar gives them in units of the score.

        Args:
            path: the file; written under a temporary name first.
            clip: which clip of the batch.
            frames: (T, H', W', 3) uint8, other pictures of the same frames, say in higher resolution.
            boxes: (T, 4) int32, (x0, y0, x1, y1), pixels of the map: rectangles to draw.
            fps: frames per second.

        Raises:
            InputError: an unknown suffix, or a folder that cannot be written.
        """
        from aosa_fast.video import contact_sheet, render_overlay, write_image, write_video

        pictures = self.frames[clip] if frames is None else frames
        saliency = self.saliency[clip].numpy()
        if not str(path).lower().endswith((".png", ".jpg", ".jpeg")):
            write_video(path, render_overlay(pictures, saliency, boxes=boxes), fps)
            return
        probability = self.metadata["probability"][clip]
        title = f"{self.config.method}: why {self.metadata['target'][clip]}?  (p = {probability:.3f})"
        write_image(path, contact_sheet(pictures, saliency, title=title, units=UNITS[self.config.score], boxes=boxes))


_TENSORS = ("saliency", "scores", "tracks", "alive", "boxes", "members", "coverage", "clean_scores")
_OPTIONAL = ("class_score_samples", "relevance")
