from __future__ import annotations

import numpy as np
import pytest
import torch

from aosa_fast import InputError
from aosa_fast.methods.frames import channel_values, check_frames, to_frames

MEAN, STD = [0.4, 0.45, 0.5], [0.2, 0.25, 0.3]


def pixels(C: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 4, 20, 24, C), dtype=np.uint8)


def normalised(frames: np.ndarray, mean: object = MEAN, std: object = STD) -> torch.Tensor:
    video = torch.from_numpy(frames).float().permute(0, 4, 1, 2, 3) / 255
    return (video - torch.tensor(mean).reshape(-1, 1, 1, 1)) / torch.tensor(std).reshape(-1, 1, 1, 1)


def test_mean_and_std_give_the_pixels_back():
    frames = pixels()
    back = to_frames(normalised(frames), MEAN, torch.tensor(STD))
    np.testing.assert_array_equal(back, frames)
    assert back.dtype == torch.uint8
    assert back.is_contiguous()
    np.testing.assert_array_equal(to_frames(normalised(frames, [0.5], [0.25]), [0.5], [0.25]), frames)


def test_without_them_each_clip_is_stretched():
    video = torch.zeros(2, 3, 1, 2, 2)
    video[0, 0, 0, 0, 0], video[0, 1, 0, 1, 1] = -2, 2
    video[1, 2, 0, 0, 1] = 5
    frames = to_frames(video)
    assert frames[0, 0].tolist() == [[[0, 128, 128], [128, 128, 128]], [[128, 128, 128], [128, 255, 128]]]
    assert frames[1, 0].tolist() == [[[0, 0, 0], [0, 0, 255]], [[0, 0, 0], [0, 0, 0]]]
    assert (to_frames(torch.full((1, 3, 2, 4, 4), 7.0)) == 0).all()


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_become_grey(channels):
    frames = pixels(channels)
    grey = to_frames(normalised(frames, [0.5], [0.5]), [0.5], [0.5])
    assert grey.shape == (2, 4, 20, 24, 3)
    assert (grey == grey[..., :1]).all()
    np.testing.assert_allclose(grey[..., 0].numpy(), frames.astype(float).mean(-1), atol=0.51)


def test_values_out_of_range_are_clipped():
    video = torch.tensor([-1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 1, 1, 4)
    assert to_frames(video, [0.0], [1.0])[0, 0, 0, :, 0].tolist() == [0, 0, 255, 255]


def test_channel_values():
    assert channel_values("mean", [1, 0.5, 0.25], 3).tolist() == [1, 0.5, 0.25]
    assert channel_values("mean", torch.tensor(0.5), 3).tolist() == [0.5, 0.5, 0.5]
    for name, values, message in (
        ("mean", [1, 2], r"^mean must have one value, or one per channel, C=3; got 2$"),
        ("std", [1, 2, 3, 4], r"^std must have one value, or one per channel, C=3; got 4$"),
        ("std", [1, 0, 1], r"^std must be finite and positive; got \[1, 0, 1\]$"),
        ("std", [-1], r"^std must be finite and positive; got \[-1\]$"),
        ("mean", [float("nan")], r"^mean must be finite; got \[nan\]$"),
    ):
        with pytest.raises(InputError, match=message):
            channel_values(name, values, 3)


def test_pictures_given_by_the_user():
    frames = pixels()
    assert check_frames(frames, (2, 4, 20, 24)) is frames
    np.testing.assert_array_equal(check_frames(torch.from_numpy(frames), (2, 4, 20, 24)), frames)
    np.testing.assert_array_equal(check_frames(frames[0], (1, 4, 20, 24)), frames[:1])
    turned = check_frames(np.asfortranarray(frames), (2, 4, 20, 24))
    assert turned.flags.c_contiguous
    for bad, message in (
        (frames.astype(np.float32), r"^frames must be uint8; got float32$"),
        (frames[:1], r"^frames must have shape \(2, 4, 20, 24, 3\); got \(1, 4, 20, 24, 3\)$"),
        (frames[0], r"^frames must have shape \(2, 4, 20, 24, 3\); got \(4, 20, 24, 3\)$"),
        (frames[..., :1], r"^frames must have shape \(2, 4, 20, 24, 3\); got \(2, 4, 20, 24, 1\)$"),
    ):
        with pytest.raises(InputError, match=message):
            check_frames(bad, (2, 4, 20, 24))
