"""Exact AOSA: one forward per tube (paper III-B, III-C; method: section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    members = tubes.members[0, chosen]
    boxes = tubes.boxes[0]
    draws = max(1, config.samples)
    dtype, layout = input_format(model)
    size = min(batch_clips(config.batch_size), len(chosen) * draws)
    buffer = torch.empty((size, *video.shape), dtype=dtype, memory_format=layout)
    clip, values = video.to(dtype), fill.to(dtype)
    scores = []
    done = 0
    with torch.no_grad():
        if config.samples:
            for i, anchor in enumerate(chosen):
                noise = conditional_noise(video, [anchor], config)
                drawn = occlude_sampled(video, fill, boxes, members[i : i + 1], noise)[0]
                for part in drawn.split(size):
                    batch = buffer[: len(part)]
                    batch.copy_(part)
                    scores.append(class_scores(call_model(model, batch), config.score))
                done += 1
                if progress:
                    progress(done, len(chosen))
        else:
            for rows in members.split(size):
                batch = buffer[: len(rows)]
                occlude(clip, values, boxes, rows, batch)
                scores.append(class_scores(call_model(model, batch), config.score))
                done += len(rows)
                if progress:
                    progress(done, len(chosen))
    return torch.cat(scores).reshape(len(chosen), draws, -1)
