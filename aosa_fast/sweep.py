"""Exact AOSA: one forward per tube (paper III-B, III-C; method: section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.fills import conditional_noise
from aosa_fast.kernels.occlude import occlude, occlude_sampled
from aosa_fast.model import Model, batch_clips, call_model, input_format
from aosa_fast.targets import class_scores
from aosa_fast.tubes import Tubes

Progress = Callable[[int, int], None]  # (tubes done, tubes in all)


def occlusion_sweep(
    model: Model,
    video: Tensor,
    fill: Tensor,
    tubes: Tubes,
    config: Config,
    *,
    anchors: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Class scores of one clip with each tube occluded.

    The occluded batch is written straight into the model's input buffer, in its dtype and memory format; nothing else
    grows with the number of tubes.

    Args:
        model: see `call_model`.
        video: (C, T, H, W) float32.
        fill: (C, T, H, W) float32; with `config.samples`, the conditional mean.
        tubes: of this clip, B = 1.
        config: gives score, samples and batch_size.
        anchors: which tubes; default all.
        progress: called after every batch.

    Returns:
        (n, S, n_classes) float32 in units of the score; S = max(1, config.samples).

    Raises:
        InputError: as `call_model`.
    """
    chosen = list(range(tubes.members.shape[1])) if anchors is None else list(anchors)
    draws = max(1, config.samples)
    dtype, layout = input_format(model)
    size = min(batch_clips(config.batch_size), len(chosen) * draws)
    buffer = torch.empty((size, *video.shape), dtype=dtype, memory_format=layout)
    batches = (_sampled if config.samples else _filled)(video, fill, tubes, config, chosen, buffer)
    scores = []
    done = 0
    with torch.no_grad():
        for batch, finished in batches:
            scores.append(class_scores(call_model(model, batch), config.score))
            done += finished
            if progress and finished:
                progress(done, len(chosen))
    return torch.cat(scores).reshape(len(chosen), draws, -1)


Batches = Iterator[tuple[Tensor, int]]  # a filled part of the buffer, and how many tubes are finished with it


def _filled(
    video: Tensor, fill: Tensor, tubes: Tubes, config: Config, chosen: Sequence[int], buffer: Tensor
) -> Batches:
    clip, values = video.to(buffer.dtype), fill.to(buffer.dtype)
    for rows in tubes.members[0, chosen].split(len(buffer)):
        batch = buffer[: len(rows)]
        occlude(clip, values, tubes.boxes[0], rows, batch)
        yield batch, len(rows)


def _sampled(
    video: Tensor, fill: Tensor, tubes: Tubes, config: Config, chosen: Sequence[int], buffer: Tensor
) -> Batches:
    rows = tubes.members[0, chosen].split(1)
    for row, noise in zip(rows, conditional_noise(video, chosen, config), strict=True):
        parts = occlude_sampled(video, fill, tubes.boxes[0], row, noise[None])[0].split(len(buffer))
        for k, part in enumerate(parts, 1):
            batch = buffer[: len(part)]
            batch.copy_(part)
            yield batch, int(k == len(parts))
