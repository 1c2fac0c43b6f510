"""The main job: a model and a clip go in, a saliency video comes out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Unpack, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError, ModelError
from aosa_fast.explanation import Explanation
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.behaviour import Behaviour, check_score, settle, study
from aosa_fast.inference.call import evaluating
from aosa_fast.inference.precision import check_device, current, model_device, precision
from aosa_fast.inference.routes import Route, route_name
from aosa_fast.inference.timing import Timings
from aosa_fast.inputs import AnyModel, ClipArguments, Clips, File, FileArguments, Flow, Given, Video, unpack
from aosa_fast.methods.comparators import compared
from aosa_fast.methods.flow import resolve_flow
from aosa_fast.methods.inputs import Values, bring_clips
from aosa_fast.methods.job import Job, Result
from aosa_fast.methods.segments import read_segments
from aosa_fast.methods.selfcheck import warn_saturated
from aosa_fast.methods.tubes import Tubes, make_tubes
from aosa_fast.models.classifier import Names, read_names
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.options import Options, with_options
from aosa_fast.processes import cores
from aosa_fast.progress import Report, show_progress
from aosa_fast.provenance import describe
from aosa_fast.registry import import_object
from aosa_fast.targets import Target

_log = logging.getLogger(__name__)


@overload
def explain(model: AnyModel, video: File, target: Target = ..., **arguments: Unpack[FileArguments]) -> Explanation: ...
@overload
def explain(
    model: AnyModel, video: File, target: list[Target], **arguments: Unpack[FileArguments]
) -> list[Explanation]: ...
@overload
def explain(model: AnyModel, video: Clips, target: Target = ..., **arguments: Unpack[ClipArguments]) -> Explanation: ...
@overload
def explain(
    model: AnyModel, video: Clips, target: list[Target], **arguments: Unpack[ClipArguments]
) -> list[Explanation]: ...
@with_options
def explain(
    model: AnyModel,
    video: Video,  # a file, (B, T, H, W, 3) uint8 or (B, C, T, H, W) float32
    target: Target | list[Target] = "pred",
    *,
    config: Config | None = None,
    preprocessing: Preprocessing | None = None,
    start: int | float | str | None = None,
    flow: Flow | None = None,
    segments: NDArray[Any] | Tensor | None = None,
    frames: NDArray[np.uint8] | Tensor | None = None,
    mean: Values | None = None,
    std: Values | None = None,
    class_names: Names | None = None,
    progress: Report | None = None,
    **options: Unpack[Options],
) -> Explanation | list[Explanation]:
    """Shows which voxels of a clip a video classifier's score rests on, by occlusion along the motion (AOSA).

    Or by one of the methods that AOSA is compared with. The result is always that of a batch: of one clip for a file,
    or for a clip that comes without a batch.

        explanation = aosa_fast.explain(aosa_fast.models.load("torchvision:r3d_18"), "clip.mp4", start=2.5)
        explanation = aosa_fast.explain(network, frames, mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225))

    Args:
        model: maps (B, C, T, H, W) to logits (B, n_classes), or to an object with `.logits`. It is left as it was. Or
            what `aosa_fast.models.load` returns, which also gives mean, std and class names where they are not given,
            and by whose preprocessing files are read, and pictures resized and cropped; a float32 `video` is its input
            as it is. Or a spec, such as "torchvision:r3d_18", which is loaded at each call.
        video: a video file, a folder of frames or a pattern of their names, as the command line reads them; or pictures
            (B, T, H, W, 3) uint8, RGB, an array or a tensor, which go to the model's device as they are and are
            normalised there; or (B, C, T, H, W) float32, normalised as the model expects. B may be left out, for a
            batch of one. It is never written to. The work is done where the model is, on a CPU or a CUDA device;
            results come back to where `video` is. Of pictures of more frames than the model takes, those in the middle
            are taken, by its stride.
        target: a class index or name, "pred" for each clip's best class, a (B,) tensor with one class per clip, a
            `Difference` of two of these, or `aosa_fast.targets.PerClip`. A list of targets gives a list of explanations
            that share flow, tubes, and one sweep (exact) or one forward (first order).
        config: all choices at once; or give single fields of `Config` as `options`, such as method="aosa", stride=4.
        preprocessing: of the model, in place of its own; a network alone needs it for files.
        start: of a file, the first frame: seconds, 2.5 or "2.5s"; its number, 12; or "center", the default, for the
            frames in the middle.
        flow: a method's name, the flow itself (B, T-1, H, W, 2) as (dx, dy) in pixels, or a function that makes
            (T-1, H, W, 2) of one clip's frames (T, H, W, 3) uint8. Default: "farneback".
        segments: your own occluders in place of the method's tubes, in pixels of the model's input: labels (T, H, W) of
            any positive integers, 0 for none; boxes (N, T, 4), (x0, y0, x1, y1), half-open, empty or NaN where there is
            none; or tracks of points (N, T, 2), (x, y), NaN where there is none, hidden by boxes of `config.box`. With
            a first axis B where clips differ. There is no optical flow then, and there are no partners;
            `metadata["segments"]` has the label of each tube. See `aosa_fast.methods.segments`.
        frames: (B, T, H, W, 3) uint8, the pictures for the optical flow and the overlay; default: made from `video`.
        mean: of the model's normalisation, in units of [0, 1] pixels; used for uint8 `video`, to make `frames`, and for
            fill="black".
        std: likewise.
        class_names: names by index, or a mapping between names and indices in either direction, for `target` and for
            what is written.
        progress: how far the work is, of methods that ask the model many times: by default a bar in a notebook, or on
            stderr where that is a terminal, once it has taken 3 seconds; True: from the start, and elsewhere as a line
            every half minute; False: never. Or a function, which is called with (steps done, steps in all).
        options: fields of `Config`, listed at the end.

    Returns:
        An `Explanation`, or a list of them for a list of targets. Maps and frames are of the size that the model sees.
        Of a file, `metadata["source"]` says which frames were read.

    Raises:
        InputError: an argument, or what the model returns, breaks a rule; the message names it. A `VideoError` is of a
            file, and a `ModelError` is from the error that the model itself raised.
        TypeError: `video` is none of these, or of another dtype; or an option is unknown.
    """
    config = Config() if config is None else config
    fields: dict[str, Any] = {**options, **({"flow": flow} if isinstance(flow, str) else {})}
    config = _changed(config, **fields)
    with show_progress(progress, config.method) as step:
        given = Given(frames, mean, std, class_names, flow, step, segments, preprocessing, start)
        return run(model, video, target, config, given)


def run(
    model: AnyModel,
    video: Video,
    target: Target | list[Target],
    config: Config,
    given: Given,
    *,
    route: Route | None = None,
    pool: Executor | None = None,
    beside: bool | None = None,
) -> Explanation | list[Explanation]:
    """`explain`, for whoever keeps what serves more than one call.

    Args:
        model: this and all else as in `explain`.
        video: see there.
        target: see there.
        config: all choices.
        given: all else.
        route: the model on its way; default: made for this call.
        pool: with a thread for the flow; default: made for this call, where it is needed.
        beside: whether the flow is made in a thread beside the model, not before it; default: where a core is idle.
    """
    start = time.perf_counter()
    if given.segments is not None and given.flow is not None:
        raise InputError("flow must be left out where segments are given; got both")
    asked = unpack(model, video, given)
    model, video, given = asked.model, asked.video, asked.given
    mean, std = given.mean, given.std
    wanted = target if isinstance(target, list) else [target]
    if not wanted:
        raise InputError("target must name at least one class; got an empty list")
    names = read_names(given.class_names)
    source = config.flow if given.flow is None else given.flow
    device = model_device(model, video.device)
    check_device(device, video.device, config.dtype, config.compat)
    with torch.inference_mode(False), current(device):
        clips = bring_clips(video, given.frames, mean, std, config, device)
        own = None if given.segments is None else read_segments(given.segments, clips.frames.shape[:4], config)
        config = config if own is None else replace(config, partners=0)
        try:
            with evaluating(model), precision(config.dtype, device):
                if route is None:
                    many = config.record.many_passes
                    route = Route(model, route_name(model, config, many), keep=many)
                seen = first_look(route, clips.video, config)
                config = _changed(config, route=route.name, batch_size=seen.batch_size(config.batch_size))
                if _log.isEnabledFor(logging.DEBUG):
                    most = BatchSize(config.batch_size, device).clips
                    _log.debug("route %s on %s, batches of up to %d clips", route.name, device, most)
                job = Job(
                    route.network, clips.video, wanted, config, mean, std, names, given.progress, Timings(), start
                )

                def prepare() -> Tubes:
                    if own is not None:
                        return own.tubes.to(device)
                    with job.timings("flow"):
                        vectors = resolve_flow(
                            source, clips.frames, pictures=clips.pictures, compat=bool(config.compat)
                        )
                    return make_tubes(vectors, config, job.timings)

                with route():
                    aside = _worth_a_thread(source, device) if beside is None else beside
                    results = _run(job, prepare, own is None and aside, pool)
        except ModelError as error:
            raise ModelError(f"{error} (method={config.method})") from error.__cause__
        settle(route.network, seen, results[0].logits, config.score_name)
        check_score(route.network, seen, config.score_name)
        results = [result.to(video.device) for result in results]
        flow_name = _flow_name(source) if config.record.has_tubes and own is None else "none"
        job.timings.seconds["total"] = time.perf_counter() - start
        facts = partial(
            describe, config=job.config, names=names, model=type(model).__name__, seen=seen, flow=flow_name,
            segments=None if own is None else own.as_dict(), source=asked.source, seconds=job.timings.seconds,
            threads=torch.get_num_threads(),
        )  # fmt: skip
        explanations = [
            _explanation(job, result, clips.frames, asked.display, partial(facts, result)) for result in results
        ]
    for result in results:
        warn_saturated(result.logits, result.target, config, seen.output)
    return explanations if isinstance(target, list) else explanations[0]


def _changed(config: Config, **fields: Any) -> Config:
    """The config with these fields: itself where they are its own, as checking all of them takes half a millisecond."""
    same = all(hasattr(config, name) and getattr(config, name) is value for name, value in fields.items())
    return config if same else replace(config, **fields)


def first_look(route: Route, video: Tensor, config: Config) -> Behaviour:
    """What the model turns out to be on its way; a way that was not asked for is given up where the model fails."""
    # Whether clips, or copies of one, may go through the model together.
    batched = config.batch_size != 1 and bool(len(video) > 1 or config.check or config.record.many_passes)
    try:
        with route():
            return study(route.network, video, batched=batched, dtype=config.dtype, route=route.name)
    except ModelError:
        if config.route != "auto" or route.name == "as-is":
            raise
    route.give_up()
    return study(route.network, video, batched=batched, dtype=config.dtype, route=route.name)


def _run(job: Job, prepare: Callable[[], Tubes], beside: bool, pool: Executor | None) -> list[Result]:
    """The method's results; `prepare` makes the tubes of those that follow the motion, beside the model if wanted."""
    record = job.config.record
    if not record.occluders:
        return compared(job)
    run: Callable[[Job, Future[Tubes]], list[Result]] = import_object(record.run)
    if not record.has_tubes:
        return run(job, _done(import_object(record.occluders)(job.video, job.config)))
    if not beside:
        return run(job, _done(prepare()))
    # The flow does not need the gradient, nor the gradient the flow: they may run at once.
    with ThreadPoolExecutor(1) if pool is None else nullcontext(pool) as threads:
        return run(job, threads.submit(_in_stream(prepare, job.video.device)))


def _done(tubes: Tubes) -> Future[Tubes]:
    soon: Future[Tubes] = Future()
    soon.set_result(tubes)
    return soon


def _worth_a_thread(source: Flow, device: torch.device) -> bool:
    """Whether the flow should be made beside the model rather than before it.

    On a GPU our own flow is only enqueued. On a CPU whose cores all work for the model, a thread that takes one of them
    away keeps all others waiting.
    """
    if device.type == "cuda":
        return not (isinstance(source, str) and source == "farneback")
    return cores() > torch.get_num_threads()


def _in_stream(function: Callable[[], Tubes], device: torch.device) -> Callable[[], Tubes]:
    """`function` for another thread, which has a current device and stream of its own, with this thread's."""
    if device.type != "cuda":
        return function
    stream = torch.cuda.current_stream(device)

    def run() -> Tubes:
        with torch.cuda.stream(stream):
            return function()

    return run


def _flow_name(source: Flow) -> str:
    if isinstance(source, str):
        return source
    return "the caller's function" if callable(source) else "the caller's array"


def _explanation(
    job: Job,
    result: Result,
    pictures: NDArray[np.uint8],
    display: NDArray[np.uint8] | None,
    facts: Callable[[], dict[str, Any]],
) -> Explanation:
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
        exact=result.exact,
        estimate_error=result.errors,
        target=result.target,
        frames=pictures,
        config=job.config,
        class_names=job.names,
        display=display,
        facts=facts,
    )
