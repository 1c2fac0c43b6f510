"""torchvision's video models."""

from __future__ import annotations

from typing import Any

from aosa_fast.errors import InputError
from aosa_fast.libraries import check_libraries
from aosa_fast.models.checkpoints import count_classes, downloaded, network_with, parts_of
from aosa_fast.models.classifier import Classifier, read_class_names
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.registry import nearest

# (frames, stride) per family, for video of 30 frames a second: frame_rate and clip_len of the weights' documentation.
# S3D was trained on 64 frames, and its accuracy measured on 128; it takes 14 or more.
SAMPLING = {"r3d": (16, 2), "mc3": (16, 2), "r2plus1d": (16, 2), "s3d": (64, 2), "mvit": (16, 4), "swin3d": (32, 2)}


def load_torchvision(spec: str, rest: str) -> Classifier:
    """Loads one of torchvision's video models.

    Frames are resized by their short side, keeping their proportions. The weights of r3d_18, mc3_18, r2plus1d_18 and
    s3d were trained on frames resized to 128x171 or 256x256 whatever their shape, which is the same for 4:3 video in
    the first three; others look narrower to them than in training.

    Args:
        rest: NAME[:WEIGHTS[:NAMES]]. WEIGHTS is a name that torchvision knows (default: its DEFAULT), "random", or a
            checkpoint file, with as many classes as it has; NAMES is for `read_class_names`.

    Raises:
        InputError: no torchvision, no such model, weights that are not on this machine or do not fit.
    """
    check_libraries("torchvision.models", extra="models", what=f"model={spec}")
    from torchvision.models import get_model, get_model_weights, list_models, video

    name, weights, names = parts_of(rest)
    if name not in list_models(module=video):
        known = list_models(module=video)
        raise InputError(f"model must be one of torchvision's {', '.join(known)}; got {name}{nearest(name, known)}")
    known = get_model_weights(name)
    entry: Any = known[weights] if weights in known.__members__ else known.DEFAULT
    if weights in ("", *known.__members__):
        weights = downloaded(spec, entry.url)
    rule = f"model={spec} must name a checkpoint file, random, or one of {', '.join(known.__members__)}"
    network = network_with(weights, lambda n: get_model(name, weights=None, num_classes=n), rule)
    classes, categories = count_classes(network), entry.meta["categories"]
    class_names = categories if classes == len(categories) else None
    if names:
        class_names = read_class_names(names, classes)
    return Classifier(network, _preprocessing(name, entry.transforms()), class_names)


def _preprocessing(name: str, transform: Any) -> Preprocessing:
    sampling = SAMPLING.get(name.split("_")[0], (16, 2))
    mean, std = tuple(transform.mean), tuple(transform.std)
    return Preprocessing(*sampling, min(transform.resize_size), transform.crop_size, mean, std)
