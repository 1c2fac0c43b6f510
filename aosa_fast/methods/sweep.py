"""Exact AOSA: one forward per tube (paper III-B, III-C; method: section 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.call import Model, call_model, input_format
from aosa_fast.kernels.occlude import occlude, occlude_sampled
from aosa_fast.methods.fills import conditional_noise, content_hash
from aosa_fast.methods.tubes import Tubes
from aosa_fast.targets import class_scores


def occlusion_sweep(
    model: Model,
    video: Tensor,
    fill: Tensor,
    tubes: Tubes,
    config: Config,
    batches: BatchSize,
    *,
    anchors: Sequence[Sequence[int]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Class scores of every clip with each of its tubes occluded.

    The occluded batch is written straight into the model's input buffer, in its dtype and memory format; nothing else
    grows with the number of tubes. Batches go on from one clip to the next, so that all but the last are full. Tubes
    of one clip with the same members hide the same voxels: they are run once, unless they draw random fills.

    Args:
        model: see `call_model`.
        video: (B, C, T, H, W) float32.
        fill: (B, C, T, H, W) float32; with `config.samples`, the conditional mean.
        tubes: of these clips.
        config: gives score, samples and dtype.
        batches: occluded clips per forward.
        anchors: which tubes of each clip, equally many; default all.
        progress: called after every batch that finishes a tube; counts the tubes of all clips.

    Returns:
        (B, n, S, n_classes) float32 in units of the score; S = max(1, config.samples).

    Raises:
        InputError: as `call_model`, or one clip does not fit into the GPU's memory.
    """
    clips, count = tubes.members.shape[:2]
    chosen = [range(count)] * clips if anchors is None else anchors
    dtype, layout = input_format(model, config.dtype)
    if not config.samples:
        video, fill = (values.to(dtype=dtype, memory_format=layout) for values in (video, fill))
    members = torch.cat([tubes.members[b, list(anchors)] for b, anchors in enumerate(chosen)])
    clip = torch.arange(clips, dtype=torch.int32, device=members.device).repeat_interleave(len(chosen[0]))
    # Random fills are drawn for the anchor. Without them the model sees the same bits, whatever the order of members: a
    # twin's score of its own could differ only by the place in the batch.
    first, twin = (torch.arange(len(members), device="cpu"),) * 2 if config.samples else first_of_twins(members, clip)
    done = twin.bincount().cumsum(0).tolist()  # tubes whose score is known after each row
    kept = first.to(members.device)
    anchors_of = [anchor for own in chosen for anchor in own]
    rows = _Rows(video, fill, tubes.boxes, members[kept], clip[kept], anchors_of, config)
    shape = (min(batches.clips, len(rows)), *video.shape[1:])
    buffer = torch.empty(shape, dtype=dtype, memory_format=layout, device=video.device)
    scores = []

    def step(begin: int, end: int) -> None:
        batch = buffer[: end - begin]
        rows.write(begin, batch)
        # A copy: the logits may be a view of the buffer that the next batch is written into.
        scores.append(class_scores(call_model(model, batch), config.score_name).clone())
        if progress and end // rows.draws > begin // rows.draws:
            progress(done[end // rows.draws - 1], len(members))

    with torch.no_grad():
        batches.run(len(rows), step)
    once = torch.cat(scores).reshape(len(first), rows.draws, -1)
    return once[twin.to(once.device)].reshape(clips, -1, *once.shape[1:])


def first_of_twins(members: Tensor, clip: Tensor) -> tuple[Tensor, Tensor]:
    """Which tubes are the first with their members, and for each tube, which of these has the same.

    Args:
        members: (n, K1) int32, in any order.
        clip: (n,) int32, the clip of each tube.

    Returns:
        (m,) int64, rising indices of tubes, and (n,) int64, places in it; in main memory.
    """
    keys = np.column_stack([clip.cpu().numpy(), np.sort(members.cpu().numpy(), axis=1)])
    _, first, twin = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return torch.from_numpy(first[order]), torch.from_numpy(np.argsort(order)[twin.ravel()])


class _Rows:
    """What the model is to see: the draws of tubes, in this order; `clip` and `anchors` are those of each tube."""

    def __init__(
        self,
        video: Tensor,
        fill: Tensor,
        boxes: Tensor,
        members: Tensor,
        clip: Tensor,
        anchors: Sequence[int],
        config: Config,
    ) -> None:
        self.video, self.fill, self.boxes, self.members, self.clip = video, fill, boxes, members, clip
        self.anchors, self.config = anchors, config
        self.draws = max(1, config.samples)
        self._hashes = [content_hash(clip) for clip in video] if config.samples else []
        self._noise: tuple[int, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.members) * self.draws

    def write(self, begin: int, batch: Tensor) -> None:
        """Fills the batch with the rows from `begin` on."""
        rows = torch.arange(begin, begin + len(batch), device=batch.device)
        tube = rows // self.draws
        clip = self.clip[tube]
        if self.config.samples:
            noise = torch.stack([self._draw(row) for row in range(begin, begin + len(batch))]).to(batch.device)
            occlude_sampled(self.video, self.fill, self.boxes, self.members[tube], clip, noise, batch)
        else:
            occlude(self.video, self.fill, self.boxes, self.members[tube], clip, batch)

    def _draw(self, row: int) -> Tensor:
        """The noise (T, 2r+1, 2r+1) of one row; the draws of a tube are made together, and kept for the next row."""
        tube, draw = divmod(row, self.draws)
        if self._noise is None or self._noise[0] != tube:
            frames, content = self.video.shape[2], self._hashes[int(self.clip[tube])]
            self._noise = tube, conditional_noise(content, frames, self.anchors[tube], self.config)
        return self._noise[1][draw]
