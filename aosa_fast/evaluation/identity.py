"""What the values of an evaluation depend on: the classes, the run, and each clip."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aosa_fast.errors import InputError
from aosa_fast.evaluation.measure import Settings
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.call import clean_logits, evaluating
from aosa_fast.inference.precision import model_device
from aosa_fast.models import Classifier
from aosa_fast.models.loading import load_on
from aosa_fast.version import __version__

if TYPE_CHECKING:
    from aosa_fast.data import Dataset, Sample


def match_classes(
    name: str, class_names: Sequence[str] | None, labels: Iterable[int], classifier: Classifier, *, all_known: bool
) -> dict[int, int]:
    """The model's index of each class of the data that a clip has.

    Args:
        name: of the data, for messages.
        class_names: of the data, by label; without, labels are the model's own indices.
        labels: that clips have.
        classifier: the model.
        all_known: whether named classes that the model does not know are refused, and not left out.

    Raises:
        InputError: classes that the model does not know, or whose names cannot be compared with its own.
    """
    from aosa_fast.data import match_labels

    used = sorted(set(labels))
    if not class_names:
        count = (len(classifier.class_names) if classifier.class_names else _class_count(classifier)) if used else 0
        return {label: label for label in used if 0 <= label < count}
    if classifier.class_names is None:
        count, wanted = _class_count(classifier), len(class_names)
        if count == wanted:
            return {label: label for label in used}  # in the same order, as far as can be known
        if not all_known:
            return {}
        raise InputError(
            f"model must have class names for {name}, which has {wanted} classes; it has {count} without names"
        )
    if all_known:
        return dict(zip(used, match_labels([class_names[i] for i in used], classifier.class_names), strict=True))
    matched = {}
    for label in used:
        with suppress(InputError):
            matched[label] = match_labels([class_names[label]], classifier.class_names)[0]
    return matched


def _class_count(classifier: Classifier) -> int:
    """How many classes the model has, found by asking it."""
    preprocessing = classifier.preprocessing
    black = torch.zeros(1, 3, preprocessing.frames, *preprocessing.crop, dtype=torch.float32, device="cpu")
    clip = black.to(model_device(classifier.network, black.device))
    with evaluating(classifier.network):
        return clean_logits(classifier.network, clip, BatchSize(1, clip.device)).shape[1]


def load_judge(spec: str, classifier: Classifier) -> Classifier:
    """The network that deletion and insertion ask, where the explained one is.

    Raises:
        InputError: it cannot be loaded, or has other classes or another preprocessing than the explained one.
    """
    device = model_device(classifier.network, torch.device("cpu"))
    judge = load_on(spec, str(device))
    for what, own, wanted in (
        ("classes", judge.class_names, classifier.class_names),
        ("number of classes", _class_count(judge), _class_count(classifier)),
        ("preprocessing", judge.preprocessing.as_dict(), classifier.preprocessing.as_dict()),
    ):
        if own != wanted:
            raise InputError(f"judge={spec} must have the model's {what}, {wanted}; got {own}")
    return judge


def sample_hash(sample: Sample, label: int | None) -> str:
    """All that a row depends on beside the settings, but the file's content: its path, part, class and boxes."""
    facts = sample.path, label, sample.start, sample.end, sample.seed
    digest = hashlib.sha256(repr(facts).encode("utf-8", "replace"))
    if sample.boxes is not None:
        for values in (sample.boxes.frames, sample.boxes.tracks, sample.boxes.corners):
            digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def describe_run(
    dataset: Dataset, classifier: Classifier, settings: Settings, model_name: str, judge: Classifier | None = None
) -> dict[str, Any]:
    """What all values depend on, in plain types; a folder holds runs with the same of it only."""
    chosen = {**asdict(settings), "metrics": list(settings.metrics)}
    if judge:
        chosen["judge_weights"] = weights_hash(judge.network)
    else:
        del chosen["judge"]  # which is younger than the format
    return {
        "format": 1,
        "data": dataset.name,
        "model": model_name or type(classifier.network).__name__,
        "weights": weights_hash(classifier.network),
        "preprocessing": classifier.preprocessing.as_dict(),
        "settings": chosen,
        "version": __version__,
    }


def weights_hash(network: Any) -> str | None:
    """SHA-256 over names and values of the weights, its first 16 digits; None of what is no module."""
    if not isinstance(network, nn.Module):
        return None
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(name.encode())
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
