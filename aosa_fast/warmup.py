"""Which way to run a model, in which batches: measured on this machine, and held against the model as it is."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.behaviour import study
from aosa_fast.inference.call import Model, clean_logits, evaluating, model_errors
from aosa_fast.inference.precision import precision
from aosa_fast.inference.routes import Route, route_name
from aosa_fast.inference.timing import Timings
from aosa_fast.kernels.field import field_scores
from aosa_fast.methods.fills import make_fill
from aosa_fast.methods.flow import resolve_flow
from aosa_fast.methods.input_gradients import input_gradients
from aosa_fast.methods.inputs import Inputs, Values
from aosa_fast.methods.sweep import occlusion_sweep
from aosa_fast.methods.tubes import Tubes, make_tubes
from aosa_fast.registry import import_object
from aosa_fast.targets import ResolvedTarget, class_scores, resolve_target

BATCHES = (1, 2, 4, 8)
ROUNDS = 5
TUBES = 8  # of the exact sweep, that are held against the model as it is
ROUNDING = 0.01  # what is further from the model as it is, as a share of the largest score, is no rounding
WORTH = 1.1  # a larger batch that is slower than the best one by this factor ends the search


@dataclass(frozen=True)
class Tried:
    """One way of running the model.

    Attributes:
        route: as in `Config.route`.
        batch: clips per call of the model.
        milliseconds: the median of a forward, or a forward and backward, per clip; None of a way that cannot be gone.
        difference: of the tubes' scores from the model's as it is, as a share of the largest; None: not looked at.
        remark: why it was not taken, if so.
    """

    route: str
    batch: int
    milliseconds: float | None = None
    difference: float | None = None
    remark: str = ""


@dataclass(frozen=True)
class Warmup:
    """What `Explainer.warmup` found; as text, one line for everything that was tried.

    Attributes:
        route: the way that was taken, as in `Config.route`.
        batch_size: clips per call of the model.
        tried: everything, in the order in which it was tried.
        what: what was timed.
    """

    route: str
    batch_size: int
    tried: tuple[Tried, ...]
    what: str

    def __str__(self) -> str:
        lines = [f"{self.route}, in batches of {self.batch_size}: the fastest {self.what} that gives the same scores"]
        for way in self.tried:
            if way.milliseconds is None:
                lines.append(f"  {way.route}: {way.remark}")
                continue
            difference = "" if way.difference is None else f", scores differ by {way.difference:.1e} of the largest"
            remark = f" ({way.remark})" if way.remark else ""
            lines.append(f"  {way.route}, batch {way.batch}: {way.milliseconds:.1f} ms a clip{difference}{remark}")
        return "\n".join(lines)


def measure(
    model: Model,
    clips: Inputs,
    config: Config,
    *,
    mean: Values | None = None,
    std: Values | None = None,
    batches: Sequence[int] = BATCHES,
    compiled: bool = False,
    tolerance: float = 1e-5,
    timed: Callable[[int], None] = lambda batches: None,
) -> tuple[Route, Warmup]:
    """Times every way to run the model, and takes the fastest whose scores are right.

    Right are scores that differ from those of the model as it is by `tolerance` of the largest, or that are nearer to
    those of the model in float64: where values are near the kink of a ReLU, rounding alone changes scores by more.

    Args:
        model: see `call_model`.
        clips: one clip, with its pictures.
        config: what is explained; if its `route` or `batch_size` is given, that one is taken.
        mean: of the model's normalisation.
        std: likewise.
        batches: clips per call that are tried, the smallest first.
        compiled: whether torch.compile is tried, too, which takes minutes.
        tolerance: see above.
        timed: called with how many of `batches` have been tried.

    Raises:
        InputError: as `call_model`.
    """
    trial = _Trial(model, clips, config, mean, std)
    with evaluating(model), precision(config.dtype, clips.video.device):
        seen = study(model, clips.video, batched=max(batches) > 1, dtype=config.dtype)
        if config.batch_size or seen.one_by_one:
            batches = (seen.batch_size(config.batch_size),)
        routes, lost = _routes(trial, compiled)
        ways = _timed(trial, routes, batches, timed)
        refused: dict[str, Tried] = {}
        for way in sorted(ways, key=lambda way: way.milliseconds or 0.0):
            checked = trial.check(routes[way.route], tolerance)
            if not checked.remark:
                break
            refused[way.route] = checked
    said = {way.route: checked} | refused
    tried = [
        replace(one, difference=said[one.route].difference, remark=said[one.route].remark) if one.route in said else one
        for one in ways
    ]
    return routes[way.route], Warmup(way.route, way.batch, (*lost, *tried), trial.what)


def _timed(
    trial: _Trial, routes: dict[str, Route], batches: Sequence[int], timed: Callable[[int], None]
) -> list[Tried]:
    """All ways one clip at a time, and the best two of each batch in the next larger one, while that helps."""
    ways: list[Tried] = []
    best = list(routes)
    for number, batch in enumerate(batches):
        timed(number)
        try:
            seconds = trial.time({name: routes[name] for name in best}, batch)
        except torch.OutOfMemoryError:
            if not ways:
                raise
            break
        ways += [Tried(name, batch, 1000 * value) for name, value in seconds.items()]
        if 1000 * min(seconds.values()) > WORTH * min(way.milliseconds or 0.0 for way in ways):
            break
        best = sorted(seconds, key=lambda name: seconds[name])[:2]
    return ways


def _routes(trial: _Trial, compiled: bool) -> tuple[dict[str, Route], list[Tried]]:
    """The ways that this model can go, and those that it cannot, with the reason."""
    model, config = trial.model, trial.config
    if config.route != "auto":
        return {config.route: Route(model, config.route, keep=True)}, []
    names = ["as-is"]
    if route_name(model, config, many=True) == "onednn":
        names.append("onednn")
    if isinstance(model, nn.Module) and not (config.compat or config.record.looks_inside or config.backward != "exact"):
        norms = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
        names += ["folded"] * norms + ["compiled"] * compiled + ["graphed"] * trial.clips.video.is_cuda
    routes, lost = {}, []
    for name in names:
        try:
            route = Route(model, name, keep=True)
            with route():
                trial.run(route.network, trial.clips.video)
            routes[name] = route
        except InputError as error:
            if name == "as-is":
                raise
            lost.append(Tried(name, 0, remark=str(error)))
    return routes, lost


class _Trial:
    """One clip, on which all ways are tried."""

    def __init__(self, model: Model, clips: Inputs, config: Config, mean: Values | None, std: Values | None) -> None:
        self.model, self.clips, self.config, self.mean, self.std = model, clips, config, mean, std
        self.forward = not config.record.takes_gradient
        self.what = "forward" if self.forward else "forward and backward"
        self._known: dict[str, Tensor] = {}
        self._checked: dict[str, Tried] = {}

    def time(self, routes: dict[str, Route], batch: int) -> dict[str, float]:
        """Median seconds per clip of every way, in turns."""
        video = self.clips.video.expand(batch, -1, -1, -1, -1).contiguous()
        seconds: dict[str, list[float]] = {name: [] for name in routes}
        for round_ in range(ROUNDS + 1):
            for name in list(routes)[:: -1 if round_ % 2 else 1]:
                start = time.perf_counter()
                with routes[name]():
                    self.run(routes[name].network, video)
                seconds[name].append(time.perf_counter() - start)
        return {name: statistics.median(values[1:]) / batch for name, values in seconds.items()}

    def run(self, network: Model, video: Tensor) -> None:
        """What is timed."""
        if self.forward:
            clean_logits(network, video, BatchSize(len(video), video.device), self.config.dtype)
        else:
            input_gradients(network, video, self.config, lambda logits: [ResolvedTarget(logits.argmax(-1).cpu())])

    def check(self, route: Route, tolerance: float) -> Tried:
        """How far the scores of this way are from those of the model as it is; the remark says whether too far."""
        if route.name not in self._checked:
            self._checked[route.name] = self._check(route, tolerance)
        return self._checked[route.name]

    def _check(self, route: Route, tolerance: float) -> Tried:
        if route.name == "as-is" or self.config.route != "auto":
            return Tried(route.name, 0)
        plain, other = self._scores("as-is", self.model), self._scores(route.name, route)
        difference = _difference(other, plain)
        if difference <= tolerance:
            return Tried(route.name, 0, difference=difference)
        refused = f"refused: more than {tolerance:g}"
        if not difference <= ROUNDING:
            return Tried(route.name, 0, difference=difference, remark=refused)
        try:
            exact = self._scores("float64", _doubled(self.model))
        except InputError:
            return Tried(route.name, 0, difference=difference, remark=refused)
        mine, as_is = _difference(other, exact), _difference(plain, exact)
        far = f"refused: {mine:.1e} from float64, as-is {as_is:.1e}"
        return Tried(route.name, 0, difference=difference, remark="" if mine <= max(as_is, tolerance) else far)

    def _scores(self, name: str, way: Route | Model) -> Tensor:
        """(N,) scores of the tubes for the best class: some exact ones, or all to first order."""
        if name not in self._known:
            if isinstance(way, Route):
                with way():
                    self._known[name] = self._tube_scores(way.network)
            else:
                self._known[name] = self._tube_scores(way)
        return self._known[name]

    def _tube_scores(self, network: Model) -> Tensor:
        video, config = self.clips.video, self.config
        tubes = self.tubes
        if self.forward:
            logits = clean_logits(network, video, BatchSize(1, video.device), config.dtype)
            target = resolve_target("pred", logits)
            anchors = (
                torch.linspace(0, tubes.members.shape[1] - 1, TUBES, device="cpu").round().long().unique().tolist()
            )
            fill = make_fill(video, config, self.mean, self.std)
            batches = BatchSize(2, video.device)
            swept = occlusion_sweep(network, video, fill, tubes, config, batches, anchors=[anchors])
            return (target.pick(class_scores(logits, config.score_name)) - target.pick(swept.mean(2)))[0]
        resolve = lambda logits: [resolve_target("pred", logits)]  # noqa: E731
        _, _, (grad,) = input_gradients(network, video, config, resolve)
        _, scores = field_scores(video, grad, tubes.boxes, tubes.members, None, radius=config.radius, relu="element")
        return scores[0]

    @cached_property
    def tubes(self) -> Tubes:
        """The occluders of the clip, the same whatever the way."""
        config = self.config
        if config.record.occluders and not config.record.has_tubes:
            tubes: Tubes = import_object(config.record.occluders)(self.clips.video, config)
            return tubes
        flow = resolve_flow("farneback", self.clips.frames, pictures=self.clips.pictures)
        return make_tubes(flow, config, Timings())


def _difference(scores: Tensor, others: Tensor) -> float:
    """The largest difference of scores (N,), as a share of the largest of the others."""
    return float((scores - others).abs().max() / others.abs().max().clamp(min=1e-30))


def _doubled(model: Model) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a torch.nn.Module to be held against float64; got {type(model).__name__}")
    with model_errors("it cannot be copied in float64"):
        return copy.deepcopy(model).double()
