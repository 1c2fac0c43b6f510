"""One model, clip after clip: whatever can be found out or made ready once is."""

from __future__ import annotations

import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Unpack, overload

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.explanation import Explanation
from aosa_fast.inference.precision import model_device
from aosa_fast.inference.routes import Route, lasting_route
from aosa_fast.inputs import AnyModel, Clips, File, Given, OfClips, OfFiles, Video, unpack, with_preprocessing
from aosa_fast.kernels import jit
from aosa_fast.methods.inputs import Values, bring_clips
from aosa_fast.models.classifier import Classifier, Names
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.options import Choices
from aosa_fast.pipeline import run
from aosa_fast.progress import Progress, Report, show_progress
from aosa_fast.targets import Target
from aosa_fast.warmup import BATCHES, ROUNDS, Warmup, measure


class Explainer:
    """Explains clips of one model one after the other, as fast as this machine can.

    `warmup` tries out how the model is run best (`Config.route`) and in which batches; the weights, as oneDNN wants
    them, and the thread of the optical flow are kept from call to call. Maps are those of `aosa_fast.explain` with the
    same choices, `explainer.config`, bit for bit. Several threads may call it at once.

    Weights that are changed in place, as by `load_state_dict`, are noticed; after changes that torch does not count
    (`parameter.data`), or of a network that was copied (route "folded"), make a new one.

    Attributes:
        found: what `warmup` tried and took; None before.
    """

    def __init__(
        self,
        model: AnyModel,
        *,
        frames: int | None = None,
        size: int | tuple[int, int] | None = None,
        channels: int = 3,
        clips: int = 1,
        config: Config | None = None,
        preprocessing: Preprocessing | None = None,
        mean: Values | None = None,
        std: Values | None = None,
        class_names: Names | None = None,
        compile: bool = False,
        tolerance: float = 1e-5,
        **options: Unpack[Choices],
    ) -> None:
        """Makes an explainer; nothing is measured yet.

        Args:
            model: as for `aosa_fast.explain`.
            frames: T of the clips to come; of a model that `aosa_fast.models.load` gives, its own.
            size: their side, or height and width, pixels; likewise.
            channels: C.
            clips: how many clips a call brings, at most: batches up to that are tried, and up to 8 for methods that
                call the model many times.
            config: all choices at once; or single fields of `Config` as `options`.
            preprocessing: as for `aosa_fast.explain`.
            mean: likewise.
            std: likewise.
            class_names: likewise.
            compile: whether `warmup` tries torch.compile as well, which takes minutes.
            tolerance: how far scores may be from those of the model as it is, as a share of the largest; or they are
                nearer to those in float64.
            options: fields of `Config`.

        Raises:
            InputError: an argument breaks a rule.
        """
        model = with_preprocessing(model, preprocessing)
        if isinstance(model, Classifier):
            frames = model.preprocessing.frames if frames is None else frames
            size = model.preprocessing.crop if size is None else size
        for name, value in (("frames", frames), ("channels", channels), ("clips", clips)):
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1; got {value}")
        fields: dict[str, Any] = {**options}
        self._asked = self._choices = replace(config or Config(), **fields)
        self.found: Warmup | None = None
        self._model, self._given = model, Given(mean=mean, std=std, class_names=class_names)
        height, width = (size, size) if size is None or isinstance(size, int) else size
        self._shape = (1, channels, frames, height, width)
        self._clips, self._compile, self._tolerance = clips, compile, tolerance
        self._pool = ThreadPoolExecutor(max(2, clips), thread_name_prefix="aosa_fast-flow")
        self._route: Route | None = None
        self._beside: bool | None = None
        self._lock = threading.Lock()

    @property
    def config(self) -> Config:
        """All choices, with the way that is gone, and after `warmup` with the batch size that it found."""
        return replace(self._choices, route=self._ready().name)

    def warmup(self, video: Video | None = None, *, progress: Report | None = None) -> Warmup:
        """Measures how to run the model, and makes everything ready that a first call would wait for.

        Args:
            video: a clip as those to come, in any form that `aosa_fast.explain` takes; default: noise. A real one is
                the better judge of whether a way gives the same scores.
            progress: as for `aosa_fast.explain`; a step is a size of batch that is tried; the last one is whole calls.

        Returns:
            What was tried, and what is used from now on; `print` shows it.

        Raises:
            InputError: neither a clip nor its shape is known, or as `aosa_fast.explain`.
        """
        with show_progress(progress, "warmup") as step:
            return self._measure(video, step)

    def _measure(self, video: Video | None, step: Progress) -> Warmup:
        if self._asked.record.has_tubes:
            jit.preload().join()  # not beside what is timed
        with torch.inference_mode(False):
            asked = unpack(self._model, self._noise() if video is None else video, self._given)
            model, clip, given = asked.model, asked.video[:1], asked.given
            clips = bring_clips(clip, None, given.mean, given.std, self._asked, model_device(model, clip.device))
            many = self._asked.record.many_passes
            batches = [size for size in BATCHES if many or size <= self._clips]
            route, found = measure(
                model, clips, self._asked, mean=given.mean, std=given.std, compiled=self._compile,
                batches=batches, tolerance=self._tolerance, timed=lambda count: step(count, 1 + len(batches)),
            )  # fmt: skip
        with self._lock:
            self._route, self.found = route, found
            self._choices = replace(self._asked, batch_size=found.batch_size)
        step(len(batches), 1 + len(batches))
        if self._asked.record.has_tubes and not self._asked.record.many_passes:
            self._beside = self._is_faster_beside(clip)
        else:
            self.explain(clip)
        return found

    def _is_faster_beside(self, clip: Tensor) -> bool:
        """Whether whole calls are faster with the flow beside the model, in turns; the maps are the same."""
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(ROUNDS):
            for self._beside in seconds:
                start = time.perf_counter()
                self.explain(clip)
                seconds[self._beside].append(time.perf_counter() - start)
        return statistics.median(seconds[True]) < statistics.median(seconds[False])

    def _noise(self) -> Tensor:
        if None in self._shape:
            raise InputError("frames and size must be given, or a clip to warmup; got neither")
        return torch.randn(self._shape, generator=torch.Generator().manual_seed(0), device="cpu")  # type: ignore[arg-type]

    @overload
    def explain(self, video: File, target: Target = ..., **given: Unpack[OfFiles]) -> Explanation: ...
    @overload
    def explain(self, video: File, target: list[Target], **given: Unpack[OfFiles]) -> list[Explanation]: ...
    @overload
    def explain(self, video: Clips, target: Target = ..., **given: Unpack[OfClips]) -> Explanation: ...
    @overload
    def explain(self, video: Clips, target: list[Target], **given: Unpack[OfClips]) -> list[Explanation]: ...
    def explain(
        self, video: Video, target: Target | list[Target] = "pred", **given: Any
    ) -> Explanation | list[Explanation]:
        """As `aosa_fast.explain`, with the model and the choices of this explainer.

        Args:
            video: as there.
            target: as there.
            given: `flow`, `segments`, `progress`, `start` of a file, and `frames` of others, as there.
        """
        flow = given.get("flow")
        config = replace(self._choices, flow=flow) if isinstance(flow, str) else self._choices
        ready, beside = self._ready(), self._beside
        with show_progress(given.pop("progress", None), config.method) as step:
            own = replace(self._given, **given, progress=step)
            return run(self._model, video, target, config, own, route=ready, pool=self._pool, beside=beside)

    __call__ = explain

    def _ready(self) -> Route:
        with self._lock:
            if self._route is None:
                network = self._model.network if isinstance(self._model, Classifier) else self._model
                self._route = lasting_route(network, self._choices)
            return self._route

    def close(self) -> None:
        """Ends the thread of the optical flow; nothing can be explained after that."""
        self._pool.shutdown()

    def __enter__(self) -> Explainer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
