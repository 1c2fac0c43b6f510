"""The main job: a model and a clip go in, a saliency video comes out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast import compat
from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.explanation import Explanation
from aosa_fast.fills import channel_fill, make_fill
from aosa_fast.flow import FlowFunction, resolve_flow
from aosa_fast.frames import channel_values, check_frames, to_frames
from aosa_fast.gradients import input_gradients, path_gradients
from aosa_fast.kernels.field import field
from aosa_fast.kernels.tube_scores import tube_scores
from aosa_fast.maps import make_map
from aosa_fast.model import Model, batch_clips, call_model, evaluating, input_format
from aosa_fast.provenance import describe
from aosa_fast.selfcheck import exact_check
from aosa_fast.sweep import occlusion_sweep
from aosa_fast.targets import ResolvedTarget, Target, class_scores, resolve_target
from aosa_fast.timing import Timings
from aosa_fast.tubes import Tubes, make_tubes

Progress = Callable[[int, int], None]  # (steps done, steps in all)
Values = Sequence[float] | Tensor


@overload
def explain(model: Model, video: Tensor, target: Target = ..., **options: Any) -> Explanation: ...
@overload
def explain(model: Model, video: Tensor, target: list[Target], **options: Any) -> list[Explanation]: ...
def explain(
    model: Model,
    video: Tensor,  # (B, C, T, H, W)
    target: Target | list[Target] = "pred",
    *,
    config: Config | None = None,
    flow: str | Tensor | NDArray[np.float32] | FlowFunction | None = None,
    frames: NDArray[np.uint8] | Tensor | None = None,
    mean: Values | None = None,
    std: Values | None = None,
    class_names: Sequence[str] | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Explanation | list[Explanation]:
    """Shows which voxels of a clip a video classifier's score rests on, by occlusion along the motion (AOSA).

    Args:
        model: maps (B, C, T, H, W) to logits (B, n_classes), or to an object with `.logits`. It is left as it was.
        video: (B, C, T, H, W) float32, normalised as the model expects; it is never written to.
        target: a class index or name, "pred" for each clip's best class, a (B,) tensor with one class per clip, or a
            `Difference` of two of these. A list of targets gives a list of explanations that share flow, tubes, and
            one sweep (exact) or one forward (first order).
        config: all choices at once; or give single fields of `Config` as `options`, such as method="aosa", stride=4.
        flow: a method's name, the flow itself (B, T-1, H, W, 2) as (dx, dy) in pixels, or a function that makes
            (T-1, H, W, 2) of one clip's frames (T, H, W, 3) uint8.
        frames: (B, T, H, W, 3) uint8, the pictures for the optical flow and the overlay; default: made from `video`.
        mean: of the model's normalisation, in units of [0, 1] pixels; used for `frames` and for fill="black".
        std: likewise.
        class_names: names by index, for `target` and for what is written.
        progress: called with (steps done, steps in all) during long work.
        options: fields of `Config`.

    Returns:
        An `Explanation`, or a list of them for a list of targets.

    Raises:
        InputError: an argument, or what the model returns, breaks a rule; the message names it.
        TypeError: `video` is not a float32 tensor, or an option is unknown.
    """
    if isinstance(flow, str):
        options["flow"] = flow
    config = Config(**options) if config is None else replace(config, **options)
    _check_video(video)
    wanted = target if isinstance(target, list) else [target]
    if not wanted:
        raise InputError("target must name at least one class; got an empty list")
    if (mean is None) != (std is None):
        raise InputError(f"mean and std must be given together; got only {'std' if mean is None else 'mean'}")
    names = tuple(class_names) if class_names is not None and len(class_names) else None
    start = time.perf_counter()
    pictures = _pictures(video, frames, mean, std, config)
    # Outside of the caller's inference mode, whose tensors cannot be differentiated.
    with torch.inference_mode(False):
        clips = video.clone() if video.is_inference() else video.detach()
        job = _Job(model, clips, wanted, config, mean, std, names, progress, Timings())

        def prepare() -> Tubes:
            with job.timings("flow"):
                source = config.flow if flow is None else flow
                vectors = resolve_flow(source, pictures, swapped_grey=bool(config.compat))
            return make_tubes(vectors, config, job.timings)

        with evaluating(model), ThreadPoolExecutor(1) as beside:
            # The flow does not need the gradient, nor the gradient the flow: OpenCV works while the model does.
            results = (_exact if config.method == "aosa" else _first_order)(job, beside.submit(prepare))
        job.timings.seconds["total"] = time.perf_counter() - start
        explanations = [_explanation(job, result, pictures) for result in results]
        if flow is not None and not isinstance(flow, str):
            for explanation in explanations:
                explanation.metadata["config"]["flow"] = (
                    "the caller's function" if callable(flow) else "the caller's array"
                )
    return explanations if isinstance(target, list) else explanations[0]


@dataclass(frozen=True)
class _Job:
    model: Model
    video: Tensor
    targets: list[Target]
    config: Config
    mean: Values | None
    std: Values | None
    names: tuple[str, ...] | None
    progress: Progress | None
    timings: Timings

    def resolve(self, logits: Tensor) -> list[ResolvedTarget]:
        if self.names and len(self.names) != logits.shape[1]:
            raise InputError(f"class_names must be one per class, {logits.shape[1]}; got {len(self.names)}")
        return [resolve_target(target, logits, self.names) for target in self.targets]


@dataclass(frozen=True)
class _Result:
    target: ResolvedTarget
    tubes: Tubes
    scores: Tensor
    saliency: Tensor
    coverage: Tensor
    logits: Tensor
    samples: Tensor | None = None
    relevance: Tensor | None = None
    check: list[dict[str, Any]] | None = None


def _exact(job: _Job, tubes_soon: Future[Tubes]) -> list[_Result]:
    config, video = job.config, job.video
    with job.timings("model"):
        logits = _clean_logits(job)
    clean = class_scores(logits, config.score)
    targets = job.resolve(logits)
    fill = make_fill(video, config, job.mean, job.std)
    tubes = tubes_soon.result()
    count, clips = tubes.members.shape[1], len(video)
    with job.timings("sweep"):
        samples = torch.stack(
            [
                occlusion_sweep(
                    job.model, video[b], fill[b], tubes.clip(b), config, progress=_shifted(job.progress, b, clips)
                )
                for b in range(clips)
            ]
        )
    results = []
    for target in targets:
        base = target.pick(clean)
        scores = base.reshape(clips, 1) - target.pick(samples.mean(2)).reshape(clips, count)
        with job.timings("map"):
            saliency, coverage = make_map(scores, base, tubes, config, *video.shape[3:])
        results.append(_Result(target, tubes, scores, saliency, coverage, logits, samples=samples))
    return results


def _first_order(job: _Job, tubes_soon: Future[Tubes]) -> list[_Result]:
    config, video = job.config, job.video
    path = config.method == "aosa-path"
    fill: Tensor | None
    if path or config.compat or (config.fill_name in ("blur", "tensor")):
        fill = make_fill(video, config, job.mean, job.std)
    else:
        fill = channel_fill(config, video.shape[1], job.mean, job.std)  # None: the field makes the conditional mean
    with job.timings("model"):
        logits, targets, grads = _path_gradients(job, fill) if path and fill is not None else _gradients(job)
    clean = class_scores(logits, config.score)
    relu = "none" if path or config.compat else config.relu
    tubes = tubes_soon.result()
    results = []
    for target, grad in zip(targets, grads, strict=True):
        with job.timings("field"):
            relevance = field(video, grad, fill, radius=config.radius, relu=relu)  # type: ignore[arg-type]
        with job.timings("tube scores"):
            scores = tube_scores(relevance, tubes.boxes, tubes.members)
        with job.timings("map"):
            saliency, coverage = make_map(scores, target.pick(clean), tubes, config, *video.shape[3:])
        check = None
        if config.check:
            with job.timings("check"):
                full = make_fill(video, config, job.mean, job.std)
                check = exact_check(job.model, video, full, tubes, scores, clean, target, config)
        results.append(_Result(target, tubes, scores, saliency, coverage, logits, relevance=relevance, check=check))
    return results


def _gradients(job: _Job) -> tuple[Tensor, list[ResolvedTarget], list[Tensor]]:
    """Logits (B, n_classes), targets, and per target the gradient (B, C, T, H, W), `batch_size` clips at a time."""
    size = batch_clips(job.config.batch_size)
    if len(job.video) <= size:
        made = input_gradients(job.model, job.video, job.config.score, job.resolve)
        if job.progress:
            job.progress(len(job.video), len(job.video))
        return made
    logits = _clean_logits(job)
    targets = job.resolve(logits)
    parts: list[list[Tensor]] = []
    for begin in range(0, len(job.video), size):
        chunk = [target.clips(begin, begin + size) for target in targets]
        clips = job.video[begin : begin + size]
        parts.append(input_gradients(job.model, clips, job.config.score, lambda _, chunk=chunk: chunk)[2])  # type: ignore[misc]
        if job.progress:
            job.progress(min(begin + size, len(job.video)), len(job.video))
    return logits, targets, [torch.cat(grads) for grads in zip(*parts, strict=True)]


def _path_gradients(job: _Job, fill: Tensor) -> tuple[Tensor, list[ResolvedTarget], list[Tensor]]:
    """Like `_gradients`, with the mean gradient on the way to the fill, clip by clip."""
    config, clips = job.config, len(job.video)
    logits = _clean_logits(job)
    targets = job.resolve(logits)
    parts = [
        path_gradients(
            job.model,
            job.video[b : b + 1],
            fill[b : b + 1],
            config.score,
            [target.clips(b, b + 1) for target in targets],
            config.steps,
            batch_clips(config.batch_size),
            _shifted(job.progress, b, clips),
        )
        for b in range(clips)
    ]
    return logits, targets, [torch.cat(grads) for grads in zip(*parts, strict=True)]


def _clean_logits(job: _Job) -> Tensor:
    dtype, layout = input_format(job.model)
    with torch.no_grad():
        parts = [
            # A copy: a model that normalises in place must not change the user's clip.
            call_model(job.model, clips.to(dtype=dtype, memory_format=layout, copy=True))
            for clips in job.video.split(batch_clips(job.config.batch_size))
        ]
    return torch.cat(parts)


def _explanation(job: _Job, result: _Result, pictures: NDArray[np.uint8]) -> Explanation:
    return Explanation(
        saliency=result.saliency,
        scores=result.scores,
        tracks=result.tubes.tracks,
        alive=result.tubes.alive,
        boxes=result.tubes.boxes,
        members=result.tubes.members,
        coverage=result.coverage,
        logits=result.logits,
        class_score_samples=result.samples,
        relevance=result.relevance,
        target=result.target,
        frames=pictures,
        config=job.config,
        class_names=job.names,
        metadata=describe(
            job.model, job.config, result.logits, result.target, result.coverage, result.check, job.names, job.timings
        ),
    )


def _pictures(
    video: Tensor, frames: NDArray[np.uint8] | Tensor | None, mean: Values | None, std: Values | None, config: Config
) -> NDArray[np.uint8]:
    if frames is not None:
        return check_frames(frames, (video.shape[0], *video.shape[2:]))
    if config.compat:
        if mean is None or std is None or video.shape[1] != 3:
            raise InputError("compat=authors2022 must come with frames, or with mean and std of an RGB model; got none")
        return compat.to_frames(video, *(channel_values(n, v, 3) for n, v in (("mean", mean), ("std", std))))
    return to_frames(video, mean, std)


def _check_video(video: Tensor) -> None:
    if not isinstance(video, Tensor):
        raise TypeError(f"video must be a torch.Tensor; got {type(video).__name__}")
    if video.ndim != 5 or 0 in video.shape:
        hint = "; add a batch dimension with video.unsqueeze(0)" if video.ndim == 4 else ""
        raise InputError(f"video must have shape (B, C, T, H, W), nothing empty; got {tuple(video.shape)}{hint}")
    if video.dtype != torch.float32:
        raise TypeError(f"video must be float32, normalised as the model expects; got {video.dtype}")
    if video.device.type != "cpu":
        raise InputError(f"video must be on the CPU in this version; got {video.device}")
    if not torch.isfinite(video).all():
        raise InputError("video must be finite; got NaN or infinity")


def _shifted(progress: Progress | None, clip: int, clips: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, count: progress(clip * count + done, clips * count)
