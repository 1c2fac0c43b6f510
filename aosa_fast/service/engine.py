"""The model of a service, and what is asked of it: one clip at a time from anybody, batches to the model."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from aosa_fast.config import Config
from aosa_fast.errors import InputError, ModelError, is_broken_device
from aosa_fast.explainer import Explainer
from aosa_fast.explanation import Explanation
from aosa_fast.inference.precision import model_device
from aosa_fast.models.classifier import Classifier
from aosa_fast.service.batcher import Batcher
from aosa_fast.service.errors import RequestError
from aosa_fast.service.metrics import ServiceMetrics
from aosa_fast.service.settings import Limits
from aosa_fast.targets import PerClip, resolve_target

_STUCK = 10  # times the time limit of a request: a batch that runs for longer will not end


@dataclass(eq=False)
class _Clip:
    pictures: NDArray[np.uint8]
    target: int | str
    arrived: float = field(default_factory=time.monotonic)


class Engine:
    """Explains clips from any thread with one model, which runs in a thread of its own.

    Attributes:
        classifier: the model.
        description: what it is and how it is explained, in plain types.
    """

    def __init__(self, classifier: Classifier, limits: Limits, metrics: ServiceMetrics, *, config: Config) -> None:
        """Starts the thread; `warmup` makes it fast.

        Args:
            classifier: the model, on its device.
            limits: give the sizes of a batch and of the queue, how long a clip waits for others, and the time limit.
            metrics: are told of all that happens.
            config: how to explain.

        Raises:
            InputError: as `Explainer`.
        """
        self.classifier, self._metrics, self._config = classifier, metrics, config
        # Methods that call the model many times fill its batches with one clip.
        clips = 1 if config.record.many_passes else limits.batch
        self._explainer = Explainer(classifier, clips=clips, config=config)
        self._is_broken = False
        self._classes = len(classifier.class_names) if classifier.class_names else None
        self._batcher: Batcher[_Clip, Explanation] = Batcher(
            self._explain, size=clips, queue=limits.queue, wait=limits.wait_ms / 1000,
            patience=_STUCK * limits.timeout, metrics=metrics,
        )  # fmt: skip
        metrics.describe(type(classifier.network).__name__, config.method)

    def warmup(self) -> str:
        """Measures how to run the model, in which batches, and makes ready what a first clip would wait for.

        Returns:
            What was found.

        Raises:
            InputError: the model cannot be explained so.
        """
        found = self._explainer.warmup(progress=False)
        preprocessing = self.classifier.preprocessing
        # Clips that do not share a forward would only wait for each other.
        self._batcher.size = min(self._batcher.size, max(found.batch_size, 1))
        shape = (self._batcher.size, preprocessing.frames, *preprocessing.crop, 3)
        noise = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        for clips in range(1, len(noise) + 1):
            self._classes = self._explainer.explain(noise[:clips], progress=False).logits.shape[1]
        return str(found)

    def submit(self, pictures: NDArray[np.uint8], target: str = "pred", *, deadline: float) -> Future[Explanation]:
        """Queues a clip.

        Args:
            pictures: (T, H, W, 3) uint8, as the model sees them.
            target: the class to explain: its index, its name, or "pred" for the model's prediction.
            deadline: on the monotonic clock; a clip that still waits then is not explained, and fails with status 504.

        Returns:
            What will have the explanation, of this clip alone. To cancel it frees the place of a clip that waits at
            once, and drops the result of one that does not.

        Raises:
            OverloadedError: too many wait, or it is closed.
            RequestError: the clip is not of the model's size, or the target is none of its classes (status 422).
        """
        preprocessing = self.classifier.preprocessing
        shape = (preprocessing.frames, *preprocessing.crop, 3)
        if pictures.shape != shape or pictures.dtype != np.uint8:
            raise RequestError(
                422, f"clip must have shape {shape} and type uint8; got {pictures.shape} of {pictures.dtype}"
            )
        return self._batcher.submit(_Clip(pictures, self._resolve(target)), deadline)

    def _resolve(self, target: str) -> int | str:
        """The class that is asked for, as far as it is known before the model has answered."""
        if target == "pred" or self._classes is None:
            return target
        try:
            found = resolve_target(target, torch.empty(1, self._classes, device="cpu"), self.classifier.class_names)
        except InputError as error:
            raise RequestError(422, str(error)) from None
        return int(found.index)

    def _explain(self, clips: list[_Clip]) -> list[Explanation]:
        start = time.monotonic()
        self._metrics.batch(len(clips))
        video = torch.from_numpy(np.stack([clip.pictures for clip in clips]))
        failure: RequestError
        try:
            found = self._explainer.explain(video, PerClip(tuple(clip.target for clip in clips)), progress=False)
        except Exception as error:
            cause = error.__cause__ if isinstance(error, ModelError) else error
            self._is_broken = self._is_broken or (cause is not None and is_broken_device(cause))
            if not isinstance(error, InputError):
                raise
            failure = RequestError(500 if isinstance(error, ModelError) else 422, str(error))
        else:
            took = time.monotonic() - start
            return [self._one(found, i, clip, start, took) for i, clip in enumerate(clips)]
        raise failure  # not while the error is handled, whose frames would keep the model's tensors

    def _one(self, found: Explanation, index: int, clip: _Clip, start: float, took: float) -> Explanation:
        own = found.clip(index)
        waited = start - clip.arrived
        self._metrics.stage("queue", waited)
        self._metrics.stage("model", took)
        service = {"batch": len(found.saliency), "queue": waited, "model": took}
        return replace(own, facts=lambda: {**own.metadata, "service": service})

    @property
    def description(self) -> dict[str, Any]:
        """What it is and how it is explained, in plain types."""
        classifier, preprocessing = self.classifier, self.classifier.preprocessing
        return {
            "model": type(classifier.network).__name__,
            "device": str(model_device(classifier.network, torch.device("cpu"))),
            "classes": list(classifier.class_names) if classifier.class_names else self._classes,
            "frames": preprocessing.frames,
            "size": list(preprocessing.crop),
            "stride": preprocessing.stride,
            "method": self._config.method,
            "batch": self._batcher.size,
            "config": self._explainer.config.as_dict(),
        }

    def seconds(self, ahead: int) -> float:
        """How long a clip takes to be explained where so many were here before it, going by the last batches."""
        return (ahead // self._batcher.size + 1) * self._batcher.seconds

    @property
    def alive(self) -> bool:
        """Whether clips can be explained: not once the accelerator has failed, or if the model never answers.

        The latter is said of a batch that has run for ten times the time limit of a request.
        """
        return self._batcher.is_alive and not self._is_broken

    def close(self, drain: bool = True, timeout: float | None = None) -> None:
        """Takes no clip any more, and fails those that wait; with `drain`, explains them first, within `timeout` s."""
        if self._batcher.close(drain, timeout):
            self._explainer.close()
