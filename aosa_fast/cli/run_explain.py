"""What the commands do, once their arguments are read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from aosa_fast.cli.demo_model import DEFAULT_MODEL, tell_of_default
from aosa_fast.cli.explain import Explain
from aosa_fast.cli.folders import check_folder
from aosa_fast.cli.names import file_names
from aosa_fast.cli.segments import read_segments_file, seen_by
from aosa_fast.cli.terminal import write_fact
from aosa_fast.config import Config
from aosa_fast.demo import demo_clip_path, demo_truth
from aosa_fast.demo.network import PREPROCESSING
from aosa_fast.explanation import Explanation
from aosa_fast.models import Classifier
from aosa_fast.models.loading import load_on
from aosa_fast.models.views import read_views
from aosa_fast.output import FILES, write_explanation
from aosa_fast.pipeline import explain
from aosa_fast.progress import show_progress
from aosa_fast.targets import Difference, Target
from aosa_fast.video import VideoClip


def run_explain(
    request: Explain, console: Console, errors: Console, boxes: NDArray[np.int32] | None = None
) -> list[Explanation]:
    """Reads the clip, explains it, writes the results and says where they are.

    `boxes` (T, 4), in pixels of the model's input, are drawn into the overlay.

    Raises:
        InputError: anything about the arguments, the clip or the model that cannot be.
    """
    check_folder(request.folder, *(FILES.values() if len(request.target) == 1 else ()))
    given = None if request.segments is None else read_segments_file(request.segments)
    classifier = _classifier(request)
    preprocessing = classifier.preprocessing
    clip, cropped, display = read_views(request.clip, preprocessing, request.start)
    targets: list[Target] = [
        target if request.minus is None else Difference(target, request.minus) for target in request.target
    ]
    segments = None if given is None else seen_by(preprocessing, given, clip)
    with show_progress(True, f"{request.config.method} on {request.clip.name}", errors) as report:
        pictures = torch.from_numpy(cropped[None])
        explanations = explain(classifier, pictures, targets, config=request.config, segments=segments, progress=report)
    tell_of_default(request.model, console)
    names = file_names(explanation.metadata["target"][0] for explanation in explanations)
    for explanation, name in zip(explanations, names, strict=True):
        explanation.metadata["source"], explanation.display = _source(clip, request), display[None]
        prefix = "" if len(explanations) == 1 else f"{name}."
        files = write_explanation(explanation, request.folder, prefix, boxes=boxes, fps=request.fps)
        _report(explanation, files, console)
    return explanations


def run_demo(config: Config, out: Path, console: Console, errors: Console) -> float:
    """Explains the embedded clip, and returns the share of positive saliency inside the moving object's box."""
    truth = demo_truth()
    boxes = PREPROCESSING.map_boxes(truth["boxes"], truth["size"], truth["size"])
    request = Explain(clip=demo_clip_path(), model=DEFAULT_MODEL, out=out, config=config, fps=float(truth["fps"]))
    (explanation,) = run_explain(request, console, errors, boxes)
    share, area = object_share(explanation.saliency[0].numpy(), boxes)
    write_fact(console, "true class", truth["class_name"])
    write_fact(console, "on the object", f"{share:.0%} of the positive saliency, in {area:.0%} of the volume")
    return share


def object_share(saliency: NDArray[np.float32], boxes: NDArray[np.int32]) -> tuple[float, float]:
    """The share of positive saliency (T, H, W) inside boxes (T, 4), and the share of the volume that they take."""
    inside = np.zeros(saliency.shape, dtype=bool)
    for t, (x0, y0, x1, y1) in enumerate(boxes):
        inside[t, y0:y1, x0:x1] = True
    positive = np.maximum(saliency, 0).astype(np.float64)
    total = positive.sum()
    return (float(positive[inside].sum() / total) if total > 0 else 0.0), float(inside.mean())


def _classifier(request: Explain) -> Classifier:
    classifier = load_on(request.model or DEFAULT_MODEL, request.device)
    return changed(
        classifier,
        frames=request.frames,
        stride=request.frame_stride,
        size=request.size,
        crop=None if request.size is None else (request.size, request.size),
        resize=request.resize,
    )


def changed(classifier: Classifier, **fields: Any) -> Classifier:
    """The classifier with other values of these fields of its preprocessing, but for those that are None."""
    given = {name: value for name, value in fields.items() if value is not None}
    return replace(classifier, preprocessing=classifier.preprocessing.changed(**given))


def _report(explanation: Explanation, files: dict[str, Path], console: Console) -> None:
    facts = explanation.metadata
    check = facts["self_check"]
    seconds = facts["seconds"]
    scores = explanation.scores[0]
    lines = {
        "prediction": f"{facts['prediction'][0]} (p = {facts['prediction_probability'][0]:.3f})",
        "explained": f"{facts['target'][0]} (p = {facts['probability'][0]:.3f}), {explanation.config.unit}",
        **(_tube_lines(explanation, scores) if len(scores) else {}),
        "time": f"{seconds['total']:.2f} s ("
        + ", ".join(f"{name} {value:.2f}" for name, value in seconds.items() if name != "total" and value >= 0.005)
        + ")",
        **{name: str(path) for name, path in files.items()},
    }
    if "budget" in check:
        within = check["budget"][0]
        near = "" if within["agreement"] is None else f", estimated agreement {within['agreement']:.3f}"
        lines["exact tubes"] = f"{within['exact_tubes']} of {within['tubes']}{near}"
    if check["exact"]:
        exact = check["exact"][0]
        known = exact["correlation"] is not None
        lines["against exact"] = f"mean error {exact['mean_absolute_error']:.3g}" + (
            f", correlation {exact['correlation']:.2f}, on {len(exact['tubes'])} tubes" if known else ""
        )
    for name, text in lines.items():
        write_fact(console, name, text)


def _tube_lines(explanation: Explanation, scores: Tensor) -> dict[str, str]:
    best = int(scores.argmax())
    segments = explanation.metadata.get("segments")
    name = f"anchor {best}" if segments is None else f"segment {best}"
    if segments is not None and segments["labels"]:
        name = f"label {segments['labels'][best]}"
    return {
        "strongest tube": f"{float(scores[best]):+.4g} of {len(scores)} tubes, {name}",
        **({"larger than p": why} if (why := _why_larger(explanation, float(scores[best]))) else {}),
        "never covered": f"{explanation.metadata['self_check']['uncovered_share'][0]:.1%} of the voxels",
    }


def _why_larger(explanation: Explanation, drop: float) -> str:
    """Why a tube's score is larger than the probability that is printed beside it; nothing where it is not."""
    config, facts = explanation.config, explanation.metadata
    if not config.record.knows_model or drop <= facts["probability"][0]:
        return ""
    if config.score_name not in ("prob", "sigmoid"):
        return f"the scores are drops of the {config.score_name}, which may be of any size, not of p"
    if facts["minus_index"] is not None:
        return "the scores are drops of a difference: hiding a tube can lower one class and raise the other"
    if config.method == "aosa":
        return "the scores of tubes that were not hidden within --budget-ms are estimates"
    return f"{config.method} estimates drops from gradients; --method aosa measures them"


def _source(clip: VideoClip, request: Explain) -> dict[str, Any]:
    return {
        "path": str(request.clip),
        "model": request.model or DEFAULT_MODEL,
        **({} if request.segments is None else {"segments": str(request.segments)}),
        **clip.facts,
    }
