"""Bytes to a model's input and to grey levels, on the CPU and in Triton's interpreter."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
import torch

from aosa_fast.kernels import reference
from aosa_fast.kernels.pictures import grey_frames, normalize_frames
from aosa_fast.models.preprocess import Preprocessing
from picture_cases import MEAN, SHAPES, STD, pictures


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_the_reference(shape: tuple[int, ...]) -> None:
    frames = pictures(shape)
    video = normalize_frames(frames, MEAN, STD)
    assert (video.dtype, video.is_contiguous()) == (torch.float32, True)
    # Worst measured: 2.4e-7.
    torch.testing.assert_close(video.double(), reference.normalize_frames(frames, MEAN, STD), rtol=0, atol=1e-6)
    assert torch.equal(grey_frames(frames), reference.grey_frames(frames))


def test_grey_is_opencvs() -> None:
    levels = torch.arange(0, 256, 3, dtype=torch.uint8)
    frames = torch.cartesian_prod(levels, levels, levels).reshape(1, 1, 86, -1, 3)
    expected = cv2.cvtColor(frames[0, 0].numpy(), cv2.COLOR_RGB2GRAY)
    np.testing.assert_array_equal(grey_frames(frames)[0, 0].numpy(), expected)
    assert torch.equal(reference.grey_frames(frames)[0, 0], torch.from_numpy(expected))


def test_the_models_input_is_that_of_its_preprocessing() -> None:
    frames = pictures((1, 4, 12, 17, 3))
    preprocessing = Preprocessing(4, 1, 12, (12, 12), tuple(MEAN.tolist()), tuple(STD.tolist()))
    assert torch.equal(normalize_frames(frames, MEAN, STD), preprocessing.to_input(frames[0].numpy()))
    plain = (frames.numpy().astype(np.float32) / 255 - MEAN.numpy()) / STD.numpy()
    np.testing.assert_array_equal(preprocessing.to_input(frames[0].numpy()).numpy(), plain.transpose(0, 4, 1, 2, 3))


def test_refuses() -> None:
    frames = pictures((1, 2, 3, 4, 3))
    for bad in (frames[0], frames[..., :2]):
        with pytest.raises(ValueError, match=r"frames must have shape \(B, T, H, W, 3\)"):
            normalize_frames(bad, MEAN, STD)
        with pytest.raises(ValueError, match=r"frames must have shape \(B, T, H, W, 3\)"):
            grey_frames(bad)
    with pytest.raises(TypeError, match=re.escape("frames must be torch.uint8; got torch.float32")):
        grey_frames(frames.float())
    with pytest.raises(TypeError, match=re.escape("std must be torch.float32; got torch.float64")):
        normalize_frames(frames, MEAN, STD.double())
    with pytest.raises(ValueError, match=re.escape("mean must have shape (3); got (1,)")):
        normalize_frames(frames, MEAN[:1], STD)
