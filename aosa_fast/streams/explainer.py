"""Maps of a stream's newest frames, in which each frame costs the optical flow of one pair."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.explainer import Explainer
from aosa_fast.explanation import Explanation
from aosa_fast.inference.precision import current, model_device
from aosa_fast.methods.flow import FlowFunction, resolve_flow
from aosa_fast.methods.inputs import upload
from aosa_fast.models.classifier import Classifier
from aosa_fast.models.loading import load
from aosa_fast.targets import Target


class StreamWarning(UserWarning):
    """What the user should know of a stream."""


class StreamingExplainer:
    """Explains the newest frames of a stream, every `hop` frames.

    The window is what the model sees at once: T frames, `stride` apart, as its preprocessing says. Frames between these
    are dropped before anything is done with them. Each of the others is resized and cropped as it comes, and its flow
    from the one before is made once, and kept while both are in the window. Tubes begin in the first frame of each
    window, wherever the window before left them. So a map is that of `aosa_fast.explain` for the window's frames, with
    the same choices, `explainer.config`, bit for bit.

    One thread at a time may call it.

    Attributes:
        explainer: what explains each window.
        hop: as given.
        pushed: frames so far.
    """

    def __init__(
        self,
        model: Classifier | str,
        *,
        hop: int = 8,
        target: Target = "pred",
        flow: str | FlowFunction | None = None,
        **options: Any,
    ) -> None:
        """Makes one with an empty window.

        Args:
            model: what `aosa_fast.models.load` gives, a spec for it, or a `Classifier(network, preprocessing)`.
            hop: a map is made as soon as the window is full, and then every `hop` frames that the model sees.
            target: as for `aosa_fast.explain`.
            flow: a method's name, or a function of the frames (2, H, W, 3) uint8 of one pair, which gives (1, H, W, 2).
            options: as for `aosa_fast.Explainer`, such as `config` or fields of it.

        Raises:
            InputError: an argument breaks a rule.
        """
        model = load(model) if isinstance(model, str) else model
        if not isinstance(model, Classifier):
            raise InputError(
                "model must come with its preprocessing, as aosa_fast.models.Classifier(network, preprocessing); "
                f"got {type(model).__name__}"
            )
        if not isinstance(hop, int | np.integer) or hop < 1:
            raise InputError(f"hop must be an integer, at least 1; got {hop!r}")
        if isinstance(flow, str):
            options["flow"] = flow
        self.explainer = Explainer(model, **options)
        self.hop, self.pushed = hop, 0
        self._preprocessing, self._target = model.preprocessing, target
        self._flow = flow if callable(flow) else None
        self._device = model_device(model.network, torch.device("cpu"))
        frames = model.preprocessing.frames
        self._pictures: deque[NDArray[np.uint8]] = deque(maxlen=frames)
        self._numbers: deque[int] = deque(maxlen=frames)
        self._vectors: deque[Tensor] = deque(maxlen=frames - 1)
        self.restart()

    def restart(self) -> None:
        """Empties the window, as where a stream was interrupted: the next frame is the first."""
        for ring in (self._pictures, self._numbers, self._vectors):
            ring.clear()
        self._size: tuple[int, int] | None = None
        self._phase, self._wanted = 0, self._preprocessing.frames

    def push(self, frame: NDArray[np.uint8]) -> Explanation | None:
        """Takes the next frame.

        A frame of another size than the one before empties the window first, and a `StreamWarning` says so.

        Args:
            frame: (H, W, 3) uint8, RGB, of any size. It is not kept: the caller may write over it.

        Returns:
            The explanation of the window that ends with this frame, or None where none is due.
            `metadata["source"]["frame_indices"]` says which frames these are, of all that were pushed.

        Raises:
            InputError: another shape or type, or as `aosa_fast.explain`.
        """
        _check(frame)
        height, width = frame.shape[:2]
        if self._size not in (None, (height, width)):
            assert self._size is not None
            old = f"{self._size[1]}x{self._size[0]}"
            self.restart()
            warnings.warn(f"the window begins anew: frames of {width}x{height} after {old}", StreamWarning, 2)
        self._size = height, width
        self.pushed += 1
        seen = self._phase % self._preprocessing.stride == 0
        self._phase += 1
        if not seen:
            return None
        if self._wanted <= self._preprocessing.frames:  # else it is in no window
            self._take(frame)
        self._wanted -= 1
        if self._wanted > 0:
            return None
        self._wanted = self.hop
        return self._explain()

    def _take(self, frame: NDArray[np.uint8]) -> None:
        # A frame of the model's size stays as it is, as in `explain`.
        fits = frame.shape[:2] == self._preprocessing.crop
        picture = frame.copy() if fits else self._preprocessing.cropped(frame[None])[0]
        config = self._config
        if self._pictures and self._vectors.maxlen and config.record.has_tubes:
            pair = np.stack([self._pictures[-1], picture])[None]
            with torch.inference_mode(False), current(self._device):
                self._vectors.append(
                    resolve_flow(
                        self._flow or config.flow,
                        pair,
                        pictures=upload(torch.from_numpy(pair), self._device),
                        compat=bool(config.compat),
                    )
                )
        self._pictures.append(picture)
        self._numbers.append(self.pushed - 1)

    @cached_property
    def _config(self) -> Config:
        # Made once: the property checks all choices each time, and those of the flow do not change.
        return self.explainer.config

    def _explain(self) -> Explanation:
        pictures = torch.from_numpy(np.stack(self._pictures)[None])
        flow = torch.cat(list(self._vectors), 1) if self._vectors else None
        explanation = self.explainer.explain(pictures, self._target, flow=flow, progress=False)
        name = None if flow is None or self._flow else self._config.flow
        explanation.facts = partial(_facts, explanation.facts, [*self._numbers], name)
        return explanation

    def close(self) -> None:
        """Ends the threads of the explainer."""
        self.explainer.close()

    def __enter__(self) -> StreamingExplainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _facts(
    facts: dict[str, Any] | Callable[[], dict[str, Any]], numbers: list[int], flow: str | None
) -> dict[str, Any]:
    """The metadata with the frames that were explained, and with the name of a flow that was made here."""
    found = facts() if callable(facts) else facts
    config = found["config"] if flow is None else {**found["config"], "flow": flow}
    return {**found, "config": config, "source": {"frame_indices": numbers}}


def _check(frame: NDArray[np.uint8]) -> None:
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
        raise InputError(f"frame must be uint8 of shape (H, W, 3); got {got}")
    if 0 in frame.shape:
        raise InputError(f"frame must not be empty; got {frame.shape}")
