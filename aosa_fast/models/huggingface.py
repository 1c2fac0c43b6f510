"""Video classifiers of Hugging Face's transformers, from this machine only."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import Tensor, nn

from aosa_fast.boundary import reading
from aosa_fast.errors import InputError
from aosa_fast.libraries import is_installed
from aosa_fast.models.anatomy import find_anatomy
from aosa_fast.models.checkpoints import seeded
from aosa_fast.models.classifier import Classifier, read_names
from aosa_fast.models.hub import find_folder, find_preprocessor, read_object
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.models.videomae import find_original, read_original


def _usual(stride: int, size: int, mean: tuple[float, ...], std: tuple[float, ...]) -> Preprocessing:
    return Preprocessing(16, stride, size, (224, 224), mean, std)


# What the published Kinetics checkpoints were trained with; mean and std count where no file says them.
_FAMILIES = {
    "timesformer": _usual(32, 224, (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)),
    "videomae": _usual(4, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "vivit": _usual(2, 256, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "vjepa2": _usual(2, 256, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
# Those that take other numbers of frames: TimeSformer-HR and -L look at the same stretch of a video with more of them.
_STRIDES = {("timesformer", 16): 16, ("timesformer", 96): 4, ("vjepa2", 16): 4}
# Parts that a classifier never calls: VideoMAE's decoder, ViViT's own pooler, V-JEPA 2's predictor, which is built too.
_IN_TRAINING = re.compile(r"(decoder|encoder_to_decoder|mask_token|vivit\.pooler|vjepa2\.predictor)\b")

_alone = threading.Lock()  # what `_no_other_kernels`, `_quiet` and `seeded` set and set back is that of all threads


class HuggingFace(nn.Module):
    """One of transformers' video classifiers, with the interface of all others here.

    Attributes:
        model: the classifier of transformers, which takes (B, T, C, H, W). Its attention stays the fast one that it is
            built with: rollout computes the matrices from queries and keys.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, video: Tensor) -> Tensor:
        """(B, C, T, H, W), normalised, to logits (B, n_classes).

        Raises:
            InputError: a clip of another size than the network's position embeddings are for.
        """
        model: Any = self.model
        config = model.config
        frames, size = _sizes(config)
        wanted = [frames, *size]
        sizes = list(video.shape[2:])
        # TimeSformer stretches its position embeddings to other heights, but takes more frames for more rows.
        if config.model_type == "timesformer" and len(sizes) == 3 and sizes[1] % _both(config.patch_size)[0] == 0:
            wanted[1] = sizes[1]
        # V-JEPA 2 counts frames from the first on.
        if config.model_type == "vjepa2" and len(sizes) == 3 and sizes[0] % config.tubelet_size == 0:
            wanted[0] = sizes[0]
        if sizes != wanted:
            raise InputError(
                f"video must be (B, C, {', '.join(map(str, wanted))}) for this model; got {tuple(video.shape)}"
            )
        return model(**{model.main_input_name: video.transpose(1, 2)}, return_dict=True).logits


def load_huggingface(spec: str, rest: str) -> Classifier:
    """Loads TimeSformer, VideoMAE, ViViT or V-JEPA 2 from a folder, the cache of earlier downloads, or Hugging Face.

    Frames are as many as the network takes; their stride is that of the family's published checkpoints (TimeSformer
    8 frames of every 32nd, VideoMAE 16 of every 4th, ViViT 32 of every 2nd, V-JEPA 2 16 of every 4th or 32 and 64 of
    every 2nd). Crop, mean and std follow the model's config.json and preprocessor_config.json. The network is a
    `HuggingFace` in evaluation mode.

    Args:
        rest: a folder as `save_pretrained` writes it, or a model's id (facebook/timesformer-base-finetuned-k400). Of
            VideoMAE, its own repository's checkpoint FILE.pth may lie in the folder, beside transformers' config.json.

    Raises:
        InputError: transformers or the files are missing, another kind of model, weights that are missing, left over or
            of another size than config.json says; parts that only training uses may be.
    """
    if not is_installed("transformers"):
        raise InputError(f'model={spec} must have transformers; it is missing: pip install "aosa-fast[models]"')
    folder = find_folder(spec, rest)
    kind = read_object(os.path.join(folder, "config.json")).get("model_type")
    if not isinstance(kind, str) or kind not in _FAMILIES:
        known = f"TimeSformer, VideoMAE, ViViT, V-JEPA 2 (model_type {', '.join(_FAMILIES)})"
        raise InputError(f"model={spec} must be one of {known}; got {kind}")
    again = "" if os.path.isdir(rest) else f" (download it again from https://huggingface.co/{rest})"
    with reading(folder, f"must hold a {kind} model{again}"):
        model, report = _read_model(folder, kind)
        _check_weights(folder, report)
        network = HuggingFace(model.float()).eval()
        anatomy = find_anatomy(network)
        if anatomy is None:
            raise InputError(f"{folder}: attention_type must be divided_space_time or joint_space_time")
        preprocessing = _preprocessing(folder, model.config)
    with reading(os.path.join(folder, "config.json"), "must have id2label", named=False):
        return Classifier(network, preprocessing, _names(model.config), anatomy)


def _read_model(folder: str, kind: str) -> tuple[Any, dict[str, Any]]:
    """The classifier of transformers, and which weights did not fit."""
    original = find_original(folder) if kind == "videomae" else None
    options: dict[str, Any] = {"local_files_only": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    with _alone, _no_other_kernels(), _quiet(), seeded():  # what a file lacks, transformers makes up at random
        from transformers import AutoModelForVideoClassification, VideoMAEConfig, VideoMAEForVideoClassification

        if original is None:
            return AutoModelForVideoClassification.from_pretrained(folder, trust_remote_code=False, **options)
        config = VideoMAEConfig.from_pretrained(folder, local_files_only=True)
        return VideoMAEForVideoClassification.from_pretrained(
            None, config=config, state_dict=read_original(original), **options
        )


def _check_weights(folder: str, report: dict[str, Any]) -> None:
    """Raises InputError where weights that the answer depends on are not there, of another size, or left over."""
    for name, given, wanted in sorted(report["mismatched_keys"]):
        if not _IN_TRAINING.match(name):
            raise InputError(
                f"{folder}: must hold weights of the sizes in config.json, whose id2label has the classes; {name} is "
                f"{tuple(given)}, and {tuple(wanted)} there"
            )
    for kind, rule in (
        ("missing", "all weights of a video classifier; it lacks"),  # a pretrained body without one, most often
        ("unexpected", "weights of the classifier in config.json alone; it has also"),
    ):
        names = sorted(name for name in report[f"{kind}_keys"] if not _IN_TRAINING.match(name))
        if names:
            raise InputError(f"{folder}: must hold {rule} {', '.join(names[:3])}")


def _preprocessing(folder: str, config: Any) -> Preprocessing:
    usual, (frames, crop) = _FAMILIES[config.model_type], _sizes(config)
    size = usual.size * max(crop) // 224
    stride = _STRIDES.get((config.model_type, frames), usual.stride)
    made = usual.changed(frames=frames, stride=stride, size=max(size, *crop), crop=crop)
    path = find_preprocessor(folder)
    if path is None:
        return made
    given = read_object(path)
    with reading(path, "must be a preprocessor's file as transformers writes it", named=False):
        size, resize = _resizing(given, size, crop)
        mean, std = _normalisation(given, config.model_type)
        return made.changed(size=max(size, *crop), mean=mean, std=std, resize=resize)


def _normalisation(given: dict[str, Any], kind: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of pixels in [0, 1] that do what the file says: scale, shift (ViViT's offset), normalise."""
    scale, shift, vivit = 1.0, 0.0, kind == "vivit"
    # What the processors of transformers have where the file says nothing.
    usual = _FAMILIES[kind] if kind == "vjepa2" else _FAMILIES["vivit"]
    if given.get("do_rescale", True):
        scale = float(given.get("rescale_factor", 1 / 127.5 if vivit else 1 / 255))
        shift = 1.0 if vivit and given.get("offset", True) else 0.0
    mean: tuple[float, ...] = (0.0,) * 3
    std: tuple[float, ...] = (1.0,) * 3
    if given.get("do_normalize", True):
        mean, std = (_channels(given.get(f"image_{name}"), getattr(usual, name)) for name in ("mean", "std"))
    return tuple((m + shift) / (255 * scale) for m in mean), tuple(s / (255 * scale) for s in std)


def _channels(values: Any, usual: tuple[float, ...]) -> tuple[float, ...]:
    """One number for all channels, or one each; the usual ones where the file leaves them to transformers."""
    if values is None:
        return usual
    numbers = values if isinstance(values, list) else [values] * 3
    if len(numbers) != 3 or not all(isinstance(number, int | float) for number in numbers):
        raise ValueError(f"image_mean and image_std must be three numbers; got {values}")
    return tuple(map(float, numbers))


def _resizing(given: dict[str, Any], default: int, crop: tuple[int, int]) -> tuple[int, str]:
    """The short side and the mode: files hold a number, {"shortest_edge"}, or {"height", "width"}, which squeezes.

    A frame that is squeezed to more than the crop is taken by its short side: no mode here squeezes and crops.
    """
    size = given.get("size")
    if not isinstance(size, dict):
        return (int(size) if isinstance(size, int) else default), "short"
    sides = [int(size[name]) for name in ("shortest_edge", "height", "width") if name in size]
    squeezed = sides == list(crop) if given.get("do_center_crop", True) else len(sides) == 2
    return max(sides, default=default), "exact" if squeezed and "height" in size else "short"


def _names(config: Any) -> tuple[str, ...] | None:
    names = read_names({index: str(name) for index, name in config.id2label.items()}) or ()
    return None if all(name == f"LABEL_{i}" for i, name in enumerate(names)) else names


def _sizes(config: Any) -> tuple[int, tuple[int, int]]:
    """(T, (H, W)) of the clips that the network takes."""
    if config.model_type == "vjepa2":
        return config.frames_per_clip, _both(config.crop_size)
    return config.num_frames, _both(config.image_size)


def _both(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


@contextmanager
def _no_other_kernels() -> Iterator[None]:
    """Hides a folder named kernels in the working directory, which transformers would take for the package it knows."""
    modules: dict[str, Any] = sys.modules
    try:
        hide = not version("kernels")
    except PackageNotFoundError:
        hide = "kernels" not in modules
    if hide:
        modules["kernels"] = None
    try:
        yield
    finally:
        if hide:
            del modules["kernels"]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports, which are set back afterwards."""
    from transformers import utils

    logging: Any = utils.logging
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
