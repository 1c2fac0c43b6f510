"""What the values of an evaluation depend on: the classes, the run, and each clip."""

from __future__ import annotations

import hashlib
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
from aosa_fast.version import __version__

if TYPE_CHECKING:
    from aosa_fast.data import Dataset, Sample


def match_classes(dataset: Dataset, classifier: Classifier, settings: Settings) -> dict[int, int]:
    """The model's index of each class of the data that a clip has.

    Labels without names are the model's own indices. Where the predictions are explained, classes that the model does
    not know are left out; `aosa_fast.data.unknown_labels` says which.
    """
    from aosa_fast.data import match_labels

    used = sorted({sample.label for sample in dataset.samples if sample.label is not None})
    if not dataset.class_names:
        if settings.target == "label" and all(sample.label is None for sample in dataset.samples):
            raise InputError(f"{dataset.name}: must have labels, or be evaluated with target=pred; it has none")
        count = (len(classifier.class_names) if classifier.class_names else _class_count(classifier)) if used else 0
        return {label: label for label in used if 0 <= label < count}
    if classifier.class_names is None:
        count, wanted = _class_count(classifier), len(dataset.class_names)
        if count == wanted:
            return {label: label for label in used}  # in the same order, as far as can be known
        if settings.target == "pred":
            return {}
        raise InputError(
            f"model must have class names for {dataset.name}, which has {wanted} classes; it has {count} without names"
        )
    if settings.target == "label":
        names = [dataset.class_names[label] for label in used]
        return dict(zip(used, match_labels(names, classifier.class_names), strict=True))
    matched = {}
    for label in used:
        with suppress(InputError):
            matched[label] = match_labels([dataset.class_names[label]], classifier.class_names)[0]
    return matched


def _class_count(classifier: Classifier) -> int:
    """How many classes the model has, found by asking it."""
    preprocessing = classifier.preprocessing
    black = torch.zeros(1, 3, preprocessing.frames, *preprocessing.crop, dtype=torch.float32, device="cpu")
    clip = black.to(model_device(classifier.network, black.device))
    with evaluating(classifier.network):
        return clean_logits(classifier.network, clip, BatchSize(1, clip.device)).shape[1]


def sample_hash(sample: Sample, label: int | None) -> str:
    """All that a row depends on beside the settings, but the file's content: its path, part, class and boxes."""
    digest = hashlib.sha256(
        repr((sample.path, label, sample.start, sample.end, sample.seed)).encode("utf-8", "replace")
    )
    if sample.boxes is not None:
        for values in (sample.boxes.frames, sample.boxes.tracks, sample.boxes.corners):
            digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def describe_run(dataset: Dataset, classifier: Classifier, settings: Settings, model_name: str) -> dict[str, Any]:
    """What all values depend on, in plain types; a folder holds runs with the same of it only."""
    facts = {**asdict(settings), "metrics": list(settings.metrics)}
    return {
        "format": 1,
        "data": dataset.name,
        "model": model_name or type(classifier.network).__name__,
        "weights": weights_hash(classifier.network),
        "preprocessing": classifier.preprocessing.as_dict(),
        "settings": facts,
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
