"""What `explain` is given, checked and brought to the model's device once."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError, ModelWarning
from aosa_fast.kernels.pictures import normalize_frames
from aosa_fast.methods import compat
from aosa_fast.methods.frames import channel_values, check_frames, to_frames
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.video.clip import Window

_log = logging.getLogger(__name__)
Values = Sequence[float] | Tensor
_MOST_NORMALISED = 20.0  # pixels in [0, 1], less a mean and over a std, stay far below; pixels in 0..255 do not


@dataclass(frozen=True)
class Inputs:
    """What the model sees of a batch of clips, and what the flow and people do.

    Attributes:
        video: (B, C, T, H, W) float32, normalised, on the model's device.
        pictures: (B, T, H, W, 3) uint8, on the model's device: what the optical flow sees.
        frames: the same in main memory.
    """

    video: Tensor
    pictures: Tensor
    frames: NDArray[np.uint8]


def bring_clips(
    video: Tensor,
    frames: NDArray[np.uint8] | Tensor | None,
    mean: Values | None,
    std: Values | None,
    config: Config,
    device: torch.device,
) -> Inputs:
    """Makes the model's input of pictures, or pictures of the model's input; `video` is as `as_clips` gives it.

    Raises:
        InputError: values that are not finite, pictures that do not fit or come without mean and std.
    """
    if (mean is None) != (std is None):
        raise InputError(f"mean and std must be given together; got only {'std' if mean is None else 'mean'}")
    # Also where nothing needs them: what is wrong with them is wrong with the caller's idea of the model's input.
    channels = 3 if video.dtype == torch.uint8 else video.shape[1]
    mean, std = (None if v is None else channel_values(n, v, channels) for n, v in (("mean", mean), ("std", std)))
    if video.dtype == torch.uint8:
        if mean is None or std is None:
            raise InputError(
                "video of uint8 pictures must come with mean and std of the model's training, for pixels in [0, 1]; "
                "got none: explain(model, video, mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225)) for pictures of "
                "its size, or preprocessing=aosa_fast.models.Preprocessing(...), by which all are resized and cropped"
            )
        if frames is not None:
            raise InputError("frames must be left out where video holds the pictures")
        pictures = upload(video, device)
        _log.info("normalised by mean %s and std %s", *([round(v, 6) for v in own.tolist()] for own in (mean, std)))
        return Inputs(normalize_frames(pictures, mean.to(device), std.to(device)), pictures, video.cpu().numpy())
    # Outside of the caller's inference mode, whose tensors cannot be differentiated.
    clips = upload(video.clone() if video.is_inference() else video.detach(), device)
    low, high = (float(extreme) for extreme in torch.aminmax(clips))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InputError("video must be finite; got NaN or infinity")
    if low >= 0 and high > _MOST_NORMALISED:
        warnings.warn(
            f"video has values from {low:.6g} to {high:.6g}, like pixels that were not normalised: unless the model "
            "takes these, give pictures as (B, T, H, W, 3) uint8 with mean and std",
            ModelWarning,
            stacklevel=4,
        )
    if frames is not None:
        checked = torch.from_numpy(check_frames(frames, (video.shape[0], *video.shape[2:])))
    elif config.compat:
        if mean is None or std is None or video.shape[1] != 3:
            raise InputError("compat=authors2022 must come with frames, or with mean and std of an RGB model; got none")
        checked = compat.to_frames(clips, mean, std)
    else:
        checked = to_frames(clips, mean, std)
    return Inputs(clips, upload(checked, device), checked.cpu().numpy())


def fit_pictures(video: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Pictures (B, T, H, W, 3) uint8 as a model expects them: its frames from the middle, resized and cropped.

    Clips of as many frames as the model takes keep them all; those of its size stay as they are.

    Raises:
        InputError: too few frames.
    """
    frames, stride, total = preprocessing.frames, preprocessing.stride, video.shape[1]
    if total != frames:
        window = Window(frames, stride, None)
        if total < window.span:
            steps = f", or {window.span} and more, {stride} apart" if stride > 1 else " or more"
            raise InputError(
                f"video must have the {frames} frames of this model{steps}; got {total}: for another number give "
                "preprocessing=model.preprocessing.changed(frames=N, stride=1), if the model takes it"
            )
        places = window.choose("video", range(total), 1.0)
        _log.info("took frames %s of %d", places, total)
        video = video[:, places]
    if tuple(video.shape[2:4]) == preprocessing.crop:
        return video
    _log.info("resized from %dx%d pixels: %s", video.shape[3], video.shape[2], preprocessing.summary)
    cropped = np.stack([preprocessing.cropped(clip) for clip in video.cpu().numpy()])
    return torch.from_numpy(cropped).to(video.device)


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on `device`; from main memory to a GPU through pinned memory, while the program goes on."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return (tensor if tensor.is_pinned() else tensor.pin_memory()).to(device, non_blocking=True)
