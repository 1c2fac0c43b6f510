"""How many clips a model takes at once."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from aosa_fast.errors import InputError

_log = logging.getLogger(__name__)
# On a GPU, before it is known what a clip takes, and at most: more clips than that no longer help a GPU, and a smaller
# batch is lost less of when the memory runs out.
FIRST, MOST = 8, 64
# Share of the free memory that a batch may take by its estimate.
SHARE = 0.5


class BatchSize:
    """The number of clips for the next call of a model.

    On a CPU a clip per thread does best: R3D-50 on 2 threads gives 4.8, 7.5, 8.1, 6.9 and 5.8 clips/s at 1, 2, 4, 8 and
    16 clips (bench/results.csv). More of them leave the caches, fewer leave a thread idle. On a GPU the first call
    shows how much memory a clip takes, counted as if nothing were freed meanwhile; then half of the free memory is
    used. A batch that runs out of memory all the same is halved.
    """

    def __init__(self, wanted: int, device: torch.device) -> None:
        """`wanted` is `Config.batch_size`; 0 leaves the choice to this class."""
        self._device = device
        self._measure = device.type == "cuda" and not wanted
        self.clips = wanted or (FIRST if device.type == "cuda" else max(2, torch.get_num_threads()))

    def run(self, count: int, step: Callable[[int, int], None]) -> None:
        """Calls step(begin, end) for consecutive parts of [0, count), each of at most `clips`.

        Args:
            count: how many clips there are.
            step: may run out of memory, and must then have done nothing that a second try would do twice.

        Raises:
            InputError: a single clip is too large for the GPU.
        """
        done = 0
        while done < count:
            end = min(done + self.clips, count)
            try:
                before = self._allocated() if self._measure else 0
                step(done, end)
                if self._measure:
                    self._choose((self._allocated() - before) / (end - done))
                done = end
                continue
            except torch.OutOfMemoryError as error:
                if end - done == 1:
                    reason = str(error).split(". ", 1)[0]
                    raise InputError(f"video must fit the GPU's memory, one clip at a time; {reason}") from None
            # Outside of the handler, whose traceback holds on to the tensors that did not fit.
            self.clips, self._measure = (end - done) // 2, False
            _log.debug("out of memory with %d clips: batches of up to %d", end - done, self.clips)
            torch.cuda.empty_cache()

    def _allocated(self) -> int:
        return int(torch.cuda.memory_stats(self._device)["allocated_bytes.all.allocated"])

    def _choose(self, bytes_per_clip: float) -> None:
        unused = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        free = torch.cuda.mem_get_info(self._device)[0] + unused
        self.clips = int(min(max(SHARE * free / max(bytes_per_clip, 1), 1), MOST))
        self._measure = False
        _log.debug("a clip takes %.0f MB: batches of up to %d clips", bytes_per_clip / 1e6, self.clips)
