"""What `explain` is given beside its choices, and what it becomes: a network, and clips as the network sees them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.call import Model
from aosa_fast.methods.flow import FlowFunction
from aosa_fast.methods.inputs import Values, fit_pictures
from aosa_fast.methods.layouts import as_clips
from aosa_fast.models.classifier import Classifier, Names
from aosa_fast.models.loading import load
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.models.views import read_views
from aosa_fast.options import Options
from aosa_fast.progress import Progress, Report
from aosa_fast.video.opening import check_file
from aosa_fast.video.series import is_pattern

AnyModel = Model | Classifier | str
File = str | os.PathLike[str]
Clips = NDArray[Any] | Tensor
Video = File | Clips
Flow = str | Tensor | NDArray[np.float32] | FlowFunction


@dataclass(frozen=True)
class Given:
    """Arguments of `explain` beside the model, the clips, the targets and the choices, as they are given there."""

    frames: NDArray[np.uint8] | Tensor | None = None
    mean: Values | None = None
    std: Values | None = None
    class_names: Names | None = None
    flow: Flow | None = None
    progress: Progress | None = None
    segments: NDArray[Any] | Tensor | None = None
    preprocessing: Preprocessing | None = None
    start: int | float | str | None = None


class OfCalls(TypedDict, total=False):
    """What every call of an `Explainer` may bring: see `aosa_fast.explain`."""

    flow: Flow | None
    segments: NDArray[Any] | Tensor | None
    progress: Report | None


class OfFiles(OfCalls, total=False):
    """Likewise, where the clip is a file."""

    start: int | float | str


class OfClips(OfCalls, total=False):
    """Likewise, where the clips are arrays or tensors."""

    frames: NDArray[np.uint8] | Tensor | None


class OfModels(Options, total=False):
    """What `explain` may be given that belongs to the model and the method, not to the clips."""

    config: Config | None
    preprocessing: Preprocessing | None
    mean: Values | None
    std: Values | None
    class_names: Names | None


class FileArguments(OfModels, OfFiles, total=False):
    """The keyword arguments of `explain` for a file."""


class ClipArguments(OfModels, OfClips, total=False):
    """The keyword arguments of `explain` for arrays and tensors."""


class AnyArguments(FileArguments, ClipArguments, total=False):
    """The keyword arguments of `explain`, whatever the clips are."""


@dataclass(frozen=True)
class Unpacked:
    """What `unpack` gives.

    Attributes:
        model: the network.
        video: (B, T, H, W, 3) uint8 or (B, C, T, H, W) float32, as the network sees it.
        given: with what the classifier brings along.
        source: of a file, which frames of it these are, and how they were read, in plain types.
        display: of a file, (1, T, H', W', 3) uint8, the same part of these frames in the file's own resolution.
    """

    model: Model
    video: Tensor
    given: Given
    source: dict[str, Any] | None = None
    display: NDArray[np.uint8] | None = None


def with_preprocessing(model: AnyModel, preprocessing: Preprocessing | None) -> Model | Classifier:
    """The model that is meant: loaded where it is a spec, and a classifier where its preprocessing is given.

    Raises:
        InputError: as `aosa_fast.models.load`.
    """
    if isinstance(model, str):
        model = load(model)
    if preprocessing is None:
        return model
    if isinstance(model, Classifier):
        return replace(model, preprocessing=preprocessing)
    return Classifier(model, preprocessing)


def unpack(model: AnyModel, video: Video, given: Given) -> Unpacked:
    """The network of a model, the clips as it sees them, and what it brings along where nothing else is given.

    Files are read, and pictures resized and cropped, by the model's preprocessing.

    Raises:
        InputError: a file that cannot be read, clips of another shape or with too few frames, no preprocessing for what
            needs it.
        TypeError: `video` is none of the kinds that there are.
    """
    model = with_preprocessing(model, given.preprocessing)
    network = model.network if isinstance(model, Classifier) else model
    source: dict[str, Any] | None = None
    display: NDArray[np.uint8] | None = None
    if isinstance(video, str | os.PathLike):
        if not isinstance(model, Classifier):
            path = os.fspath(video)
            if not (os.path.isdir(path) or is_pattern(path)):
                check_file(path)  # a wrong name is told first
            raise InputError(_no_preprocessing(path))
        if given.frames is not None:
            raise InputError("frames must be left out where video is a file, which holds the pictures")
        start = "center" if given.start is None else given.start
        clip, cropped, display = read_views(video, model.preprocessing, start)
        source = {"path": clip.path, **clip.facts}
        clips, display = torch.from_numpy(cropped[None]), display[None]
    else:
        if given.start is not None:
            raise InputError(
                f"start must be left out unless video is a file: give the frames from there; got {given.start}"
            )
        clips = as_clips(video, network)
    if not isinstance(model, Classifier):
        return Unpacked(network, clips, given)
    preprocessing = model.preprocessing
    if given.mean is None and given.std is None:
        given = replace(given, mean=preprocessing.mean, std=preprocessing.std)
    if given.class_names is None:
        given = replace(given, class_names=model.class_names)
    fitted = fit_pictures(clips, preprocessing) if clips.dtype == torch.uint8 else clips
    return Unpacked(network, fitted, given, source, display)


def _no_preprocessing(path: str) -> str:
    return (
        f"video={path} must come with the model's preprocessing, which a network alone does not say; "
        f"got none: with the values of the model's training, explain(model, {path!r}, preprocessing=aosa_fast.models."
        "Preprocessing(frames=16, stride=2, size=128, crop=(112, 112), mean=(0.45, 0.45, 0.45), "
        "std=(0.225, 0.225, 0.225)))"
    )
