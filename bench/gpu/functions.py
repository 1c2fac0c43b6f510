"""The operators that the GPU benchmark calls, and what runs in their place in a rehearsal."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import Tensor

from aosa_fast.kernels.farneback import farneback
from aosa_fast.kernels.field import conditional_mean, field, field_scores
from aosa_fast.kernels.occlude import occlude, occlude_sampled
from aosa_fast.kernels.partners import select_partners
from aosa_fast.kernels.pictures import grey_frames, normalize_frames
from aosa_fast.kernels.saliency_map import saliency_map
from aosa_fast.kernels.tracking import rasterize_boxes, track_anchors
from aosa_fast.kernels.tube_overlaps import tube_overlaps
from aosa_fast.kernels.tube_scores import tube_scores

Functions = dict[str, Callable[..., Any]]
TWINS = (
    *("field", "tube_scores", "tube_overlaps", "saliency_map"),
    *("occlude", "tracking", "partners", "farneback", "pictures"),
)
FARNEBACK = (0.5, 3, 15, 3, 5, 1.2)  # the public function's defaults


def public() -> Functions:
    """The operators, which go by their operands' device."""
    functions = (
        *(conditional_mean, field, field_scores, tube_scores, tube_overlaps, saliency_map, occlude, occlude_sampled),
        *(track_anchors, rasterize_boxes, select_partners, farneback, normalize_frames, grey_frames),
    )
    return with_together({function.__name__: function for function in functions})


def interpreted() -> Functions:
    """What a GPU would run, on CPU tensors; TRITON_INTERPRET must have been set before Triton was imported."""
    twins = {name: import_module(f"aosa_fast.kernels.{name}_triton") for name in TWINS}
    fields, tracking = twins["field"], twins["tracking"]

    def boxes_of(tracks: Tensor, alive: Tensor, box: tuple[int, int], height: int, width: int) -> Tensor:
        return tracking.rasterize_boxes(tracks, alive, *box, height, width)

    def field_and_scores(video: Tensor, grad: Tensor, boxes: Tensor, members: Tensor, *, radius: int) -> Any:
        return fields.field_scores(video, grad, None, boxes, members, radius, 0)

    return with_together(
        {
            "conditional_mean": fields.conditional_mean,
            "field": lambda video, grad, *, radius: fields.field(video, grad, None, radius, 0),
            "field_scores": field_and_scores,
            "tube_scores": twins["tube_scores"].tube_scores,
            "tube_overlaps": twins["tube_overlaps"].tube_overlaps,
            "saliency_map": twins["saliency_map"].saliency_map,
            "occlude": twins["occlude"].occlude,
            "occlude_sampled": twins["occlude"].occlude_sampled,
            "track_anchors": lambda flow, stride: tracking.track_anchors(flow, stride, 0),
            "rasterize_boxes": boxes_of,
            "select_partners": lambda tracks, partners: twins["partners"].select_partners(tracks, partners, 0.0),
            "farneback": lambda frames: twins["farneback"].farneback(frames, *FARNEBACK),
            "normalize_frames": twins["pictures"].normalize_frames,
            "grey_frames": twins["pictures"].grey_frames,
        }
    )


def with_together(functions: Functions) -> Functions:
    """The functions, and `together` made of them: field, scores and map, as AOSA-approx calls them."""

    def together(video: Tensor, grad: Tensor, boxes: Tensor, members: Tensor, *, radius: int) -> tuple[Tensor, ...]:
        relevance, scores = functions["field_scores"](video, grad, boxes, members, radius=radius)
        return relevance, scores, *functions["saliency_map"](scores, boxes, members, *video.shape[3:])

    return {**functions, "together": together}


def results(function: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> tuple[Tensor, ...]:
    """What a call returns, or writes into its last argument; not in place of what it was given."""
    own = tuple(a.clone() if isinstance(a, Tensor) else a for a in arguments)
    result = function(*own, **options)
    if result is None:
        return (own[-1],)
    return (result,) if isinstance(result, Tensor) else tuple(result)
