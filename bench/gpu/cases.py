"""What the GPU benchmark calls operators with, and the fewest bytes that each call must move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from aosa_fast.bench.gpu.functions import public
from aosa_fast.bench.gpu.plan import Plan, Size
from aosa_fast.bench.inputs import (
    CELL,
    MEAN,
    STD,
    Operands,
    cell_weights,
    moving_frames,
    normalised,
    random_tracks,
    smooth_flow,
)
from aosa_fast.bench.report import Target

PARTNERS = 3
SEEDS = 4  # clips of a batch that differ; the others repeat them, in memory of their own
PLAIN = 15 * 112 * 112  # pixels of flow that the float64 reference makes in about a second


@dataclass(frozen=True)
class Case:
    """One operator at one size.

    Attributes:
        operator: key of `Functions`.
        label: what else tells it from others.
        arguments: tensors in main memory, and numbers; a tensor that is written to comes last.
        options: keyword arguments.
        floor: bytes; 0: checked, but not timed.
        plain: whether the float64 reference takes only seconds.
        targets: by metric.
        tolerance: of floats, in the largest value; at most ten times what the interpreter is off by.
    """

    operator: str
    label: str
    arguments: tuple[Any, ...]
    floor: int
    options: dict[str, Any] = field(default_factory=dict)
    plain: bool = False
    targets: dict[str, Target] = field(default_factory=dict)
    tolerance: float = 1e-5

    @property
    def name(self) -> str:
        """Of its rows."""
        return f"{self.operator}, {self.label}"

    def on(self, device: torch.device) -> tuple[Any, ...]:
        """The arguments on a device, in memory of their own and in the same memory format."""
        return tuple(a.to(device, copy=True) if isinstance(a, Tensor) else a for a in self.arguments)


def floors(o: Operands, rows: int, itemsize: int, radius: int) -> dict[str, int]:
    """Bytes of every operator with each input read once and each output written once.

    With v = B T H W voxels, C channels, a = B N T boxes, m = B N K1 members, n rows of i bytes an element, radius r:

    * conditional_mean: 8 C v; field: 8 C v + 4 v; tube_scores: 4 v + 16 a + 4 m + 4 B N;
    * field_scores: 8 C v + 4 v + 16 a + 4 m + 4 B N; saliency_map: 8 v + 16 a + 4 m + 4 B N;
    * tube_overlaps: 4 for each cell of 4 x 4 pixels, 16 a + 4 m + 4 B N N;
    * together: as field_scores, and 8 v for map and coverage: boxes, members and scores count once;
    * occlude: i (2 B + n) C T H W + 16 a + 4 n K1 + 4 n; occlude_sampled: as for i = 4, and 4 n T (2 r + 1)²;
    * track_anchors: 9 a written; read, 32 bytes for each of B N (T - 1) look-ups, but no more than the flow;
    * rasterize_boxes: 25 a; select_partners: 8 a + 4 m; normalize_frames: 15 v + 24; grey_frames: 4 v;
    * farneback: v + 8 B (T - 1) H W.
    """
    (B, C, T, H, W), (N, K1) = o.video.shape, o.members.shape[1:]
    v, a, m = B * T * H * W, B * N * T, B * N * K1
    scored, flow = 16 * a + 4 * m + 4 * B * N, 8 * B * (T - 1) * H * W
    occluded = itemsize * (2 * B + rows) * C * T * H * W + 16 * a + 4 * rows * K1 + 4 * rows
    return {
        "conditional_mean": 8 * C * v,
        "field": 8 * C * v + 4 * v,
        "field_scores": 8 * C * v + 4 * v + scored,
        "tube_scores": 4 * v + scored,
        "tube_overlaps": 4 * B * T * -(-H // CELL) * -(-W // CELL) + 16 * a + 4 * m + 4 * B * N * N,
        "saliency_map": 8 * v + scored,
        "together": 8 * C * v + 12 * v + scored,
        "occlude": occluded,
        "occlude_sampled": occluded + 4 * rows * T * (2 * radius + 1) ** 2,
        "track_anchors": 9 * a + min(32 * B * N * (T - 1), flow),
        "rasterize_boxes": 25 * a,
        "select_partners": 8 * a + 4 * m,
        "normalize_frames": 15 * v + 24,
        "grey_frames": 4 * v,
        "farneback": v + flow,
    }


def cases(plan: Plan) -> Iterator[Case]:
    """Everything that is checked; what has a floor is timed as well."""
    yield from operator_cases(plan)
    yield from flow_cases(plan)
    for sizes, plain in ((plan.others, False), (plan.odd, True)):
        for size in sizes:
            label = "x".join(str(length) for length in size[:4]) + f", s={size[4]}"
            for case in _of_size(plan, size, label):
                yield replace(case, floor=0, plain=plain)


def operator_cases(plan: Plan) -> Iterator[Case]:
    """All but the optical flow, at the timed sizes."""
    first, *more = plan.batches
    for B, stride in [*((first, stride) for stride in plan.strides), *((B, plan.strides[-1]) for B in more)]:
        size = (B, plan.frames, plan.side, plan.side, stride, plan.box)
        for case in _of_size(plan, size, f"{B} clip{'s' * (B > 1)}, s={stride}"):
            if case.operator == "farneback" or (stride != plan.strides[-1] and not _strided(case)):
                continue
            if case.operator == "together" and plan.batches[-1] == B:
                case.targets["of copy bandwidth"] = Target(">=", 60)
            if case.operator == "together" and B == 1 and stride == plan.strides[-1]:
                case.targets["kernels"] = Target("<=", 60)
            yield case
    count, frames = plan.walks
    tracks = random_tracks(count, frames)
    members = 4 * count * (PARTNERS + 1)
    yield Case("select_partners", f"N={count}, T={frames}", (tracks, PARTNERS), 8 * count * frames + members)


def flow_cases(plan: Plan) -> Iterator[Case]:
    """Farnebäck's flow, at the timed sizes."""
    for (B, frames, side), limit in zip(plan.flows, (1000, 3000, None), strict=True):
        pictures, o = clips(B, frames, side, side, plan.strides[0], plan.box)
        (case,) = (c for c in _pictures(pictures, o, "") if c.operator == "farneback")
        label = f"{B} x {frames - 1} pair{'s' * (frames > 2)} of {side}x{side}"
        targets = {"queue of calls": Target("<=", limit)} if limit else {}
        yield Case("farneback", label, case.arguments, case.floor, plain=case.plain, targets=targets)


@lru_cache(maxsize=2)
def clips(B: int, T: int, H: int, W: int, stride: int, box: int) -> tuple[Tensor, Operands]:
    """Pictures (B, T, H, W, 3) uint8, and the operands made of them and of a smooth random flow."""
    functions, seeds = public(), [b % SEEDS for b in range(B)]
    pictures = torch.cat([torch.from_numpy(moving_frames(T, max(H, W), seed)) for seed in range(min(B, SEEDS))])
    pictures = pictures[seeds, :, :H, :W].contiguous()
    flow = torch.cat([smooth_flow(T, max(H, W), seed) for seed in range(min(B, SEEDS))])[seeds, :, :H, :W].contiguous()
    video = normalised(pictures.numpy())
    grad = torch.randn(video.shape, generator=torch.Generator().manual_seed(0)) * 1e-3
    tracks, alive = functions["track_anchors"](flow, stride)
    boxes = functions["rasterize_boxes"](tracks, alive, (box, box), H, W)
    members = functions["select_partners"](tracks, PARTNERS)
    return pictures, Operands(video, grad, flow, tracks, alive, boxes, members, stride, box)


def _strided(case: Case) -> bool:
    """Whether it depends on the distance of the anchors."""
    return case.operator not in ("conditional_mean", "field", "normalize_frames", "grey_frames")


def _of_size(plan: Plan, size: Size, label: str) -> Iterator[Case]:
    pictures, o = clips(*size)
    plain = size[0] == 1
    H, W = size[2:4]
    video, grad = (values[:, : plan.channels].contiguous() for values in (o.video, o.grad))
    floor = floors(replace(o, video=video, grad=grad), plan.rows, 4, plan.radius)
    reach, boxed = {"radius": plan.radius}, (o.boxes, o.members)
    relevance, scores = public()["field_scores"](video, grad, *boxed, **reach)
    arguments: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
        "conditional_mean": ((video,), reach),
        "field": ((video, grad), reach),
        "field_scores": ((video, grad, *boxed), reach),
        "tube_scores": ((relevance, *boxed), {}),
        "tube_overlaps": ((cell_weights(relevance), *boxed), {"cell": CELL}),
        "saliency_map": ((scores, *boxed, H, W), {}),
        "together": ((video, grad, *boxed), reach),
        "track_anchors": ((o.flow, o.stride), {}),
        "rasterize_boxes": ((o.tracks, o.alive, (o.box, o.box), H, W), {}),
        "select_partners": ((o.tracks, PARTNERS), {}),
    }
    for name, (given, options) in arguments.items():
        yield Case(name, label, given, floor[name], options, plain, {})
    yield from _pictures(pictures, o, label)
    yield from _occluded(plan, o, label)


def _pictures(pictures: Tensor, o: Operands, label: str) -> Iterator[Case]:
    floor = floors(o, 0, 4, 0)
    grey = public()["grey_frames"](pictures)
    plain = o.flow.numel() <= 2 * PLAIN
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    yield Case("normalize_frames", label, (pictures, mean, std), floor["normalize_frames"], plain=plain)
    yield Case("grey_frames", label, (pictures,), floor["grey_frames"], plain=plain)
    yield Case("farneback", label, (grey,), floor["farneback"], plain=plain)


def _occluded(plan: Plan, o: Operands, label: str) -> Iterator[Case]:
    """The batches of exact AOSA: rows of all clips, their tubes spread over the frame."""
    B, C, T, H, W = o.video.shape
    rows = (torch.arange(plan.rows) % B).int()
    members = o.members[rows.long(), torch.linspace(0, o.members.shape[1] - 1, plan.rows).long()]
    mean = public()["conditional_mean"](o.video, plan.radius)
    noise = torch.randn(plan.rows, T, *[2 * plan.radius + 1] * 2, generator=torch.Generator().manual_seed(1))
    for dtype in (torch.float32, torch.bfloat16):
        floor = floors(o, plan.rows, dtype.itemsize, plan.radius)["occlude"]
        for layout in (torch.contiguous_format, torch.channels_last_3d):
            video, fill = (values.to(dtype).contiguous(memory_format=layout) for values in (o.video, mean))
            out = torch.full((plan.rows, C, T, H, W), torch.nan, dtype=dtype).contiguous(memory_format=layout)
            kind = (
                f"{str(dtype).split('.')[1]} {'contiguous' if layout == torch.contiguous_format else 'channels-last'}"
            )
            given = (video, fill, o.boxes, members, rows)
            yield Case("occlude", f"{kind}, {plan.rows} rows, {label}", (*given, out), floor, plain=B == 1)
    floor = floors(o, plan.rows, 4, plan.radius)["occlude_sampled"]
    out = torch.full((plan.rows, C, T, H, W), torch.nan)
    sampled = (o.video, mean, o.boxes, members, rows, noise)
    plain = o.video.numel() < 10**5  # it goes through the shifts of a whole clip for every row
    yield Case("occlude_sampled", f"{plan.rows} rows, {label}", (*sampled, out), floor, plain=plain)
    out = out.bfloat16().contiguous(memory_format=torch.channels_last_3d)
    label = f"bfloat16 channels-last, {plan.rows} rows, {label}"
    yield Case("occlude_sampled", label, (*sampled, out), 0, plain=plain, tolerance=2**-7)
