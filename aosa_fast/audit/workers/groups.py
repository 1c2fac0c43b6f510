"""Which clips of an audit are explained together, and what each of them waits for.

A group is so many samples that follow each other in the data. Its clips are explained together once all of them are
read, whatever came first, so that the same data give the same batches, whose sums round the same. Those that cannot be
read leave a gap. A clip over which a process died is taken alone, so that no other clip shares what happens to it.
The rows of a group come together: a run that goes on without the groups that are done forms the others as before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from aosa_fast.audit.tasks import Row, failed_row
from aosa_fast.audit.workers.attempts import QUARANTINE

if TYPE_CHECKING:
    from aosa_fast.audit.workers.attempts import Suspects
    from aosa_fast.data import Sample


@dataclass(eq=False, slots=True)
class PooledClip:
    """A sample on its way to its row.

    Attributes:
        group: the clips among which it came.
        prepared: bytes of its Prepared, from when it was read to when its row is there.
        row: None until it is known.
        alone: whether it is explained by itself.
    """

    sample: Sample
    group: Group
    alone: bool
    prepared: memoryview | None = None
    row: Row | None = None


@dataclass(eq=False, slots=True)
class Group:
    """Samples that follow each other.

    Attributes:
        clips: one for each.
        sent: whether those that are explained together were given out.
    """

    clips: list[PooledClip] = field(default_factory=list)
    sent: bool = False


class Groups:
    """All clips that are under way, in as many groups as there may be at once.

    Attributes:
        to_read: clips that wait for a reader.
        to_explain: batches that wait for an explainer.
    """

    def __init__(self, samples: Iterable[Sample], attempts: Suspects, *, size: int, most: int) -> None:
        """Takes no sample yet.

        Args:
            samples: taken group by group, as groups are done.
            attempts: record of the clips over which processes died.
            size: samples per group; the last one may have fewer.
            most: groups under way at once.
        """
        self.to_read: deque[PooledClip] = deque()
        self.to_explain: deque[list[PooledClip]] = deque()
        self._samples, self._attempts = iter(samples), attempts
        self._size, self._most = size, most
        self._open: set[Group] = set()
        self._done: deque[Group] = deque()
        self._exhausted = False

    def fill(self) -> None:
        """Begins new groups where there is room for them."""
        while not self._exhausted and len(self._open) + len(self._done) < self._most:
            samples = list(islice(self._samples, self._size))
            self._exhausted = len(samples) < self._size
            if not samples:
                return
            group = Group()
            group.clips += [PooledClip(sample, group, self._attempts.deaths(sample.id) > 0) for sample in samples]
            self._open.add(group)
            self.to_read += self._quarantine(group.clips)
            self._look_at(group)

    @property
    def finished(self) -> bool:
        """Whether every sample has its row, and every row has been taken."""
        return self._exhausted and not self._open and not self._done

    def take_rows(self) -> list[Row] | None:
        """The rows of a group that is done, in the order of its samples; None if there is none."""
        if not self._done:
            return None
        group = self._done.popleft()
        rows = [clip.row for clip in group.clips if clip.row is not None]
        group.clips = []  # a circle of references would keep the rows until the next collection
        return rows

    def prepared(self, clip: PooledClip, prepared: memoryview) -> None:
        """A clip was read."""
        clip.prepared = prepared
        if clip.alone:
            self.to_explain.append([clip])
        self._look_at(clip.group)

    def explained(self, clips: Sequence[PooledClip], rows: Sequence[Row]) -> None:
        """A batch was explained; the rows are in its order."""
        for clip, row in zip(clips, rows, strict=True):
            self._finish(clip, row)

    def failed(self, clips: Sequence[PooledClip], stage: str, error: str) -> None:
        """A task ended with an exception. Of several clips each is tried alone, as one of them may be at fault."""
        if len(clips) == 1:
            self._finish(clips[0], failed_row(clips[0].sample, stage, error))
            return
        for clip in clips:
            clip.alone = True
            self.to_explain.append([clip])

    def died(self, clips: Sequence[PooledClip], stage: str, reason: str) -> None:
        """A process died over a task: each of its clips is tried once more, alone, unless that was its second death.

        Raises:
            InputError: the record cannot be written.
        """
        self._attempts.record([clip.sample.id for clip in clips], stage, reason)
        for clip in self._quarantine(clips):
            clip.alone = True
            if stage == "explain":
                self.to_explain.append([clip])
            else:
                self.to_read.append(clip)  # behind the others: something else may work in between
        for clip in clips:
            self._look_at(clip.group)

    def give_back(self, clips: list[PooledClip], stage: str) -> None:
        """A process ended before it began a task: the task is the next one to be given out."""
        if stage == "explain":
            self.to_explain.appendleft(clips)
        else:
            self.to_read.extendleft(clips)

    def _quarantine(self, clips: Sequence[PooledClip]) -> list[PooledClip]:
        """Gives their rows to the clips that are not tried again; returns the others."""
        left = [clip for clip in clips if self._attempts.deaths(clip.sample.id) < QUARANTINE]
        for clip in set(clips).difference(left):
            clip.row, clip.prepared = self._attempts.quarantine_row(clip.sample), None
        return left

    def _finish(self, clip: PooledClip, row: Row) -> None:
        deaths = self._attempts.deaths(clip.sample.id)
        if deaths:
            row["attempts"] = deaths + 1
            self._attempts.forgive(clip.sample.id)
        clip.row, clip.prepared = row, None
        self._look_at(clip.group)

    def _look_at(self, group: Group) -> None:
        """Gives out what the group's last change has made ready."""
        together = [clip for clip in group.clips if not clip.alone and clip.row is None]
        if not group.sent and all(clip.prepared is not None for clip in together):
            group.sent = True
            if together:
                self.to_explain.append(together)
        if group in self._open and all(clip.row is not None for clip in group.clips):
            self._open.remove(group)
            self._done.append(group)
