"""How late a frame is by its stream's own clock: what waits in a network or a server has no other trace here."""

from __future__ import annotations

_DRIFT = 1e-3  # seconds per second that the two clocks may drift apart unseen; those of cameras do by up to 1e-4
_LEAP = 10.0  # seconds; where times go back, or leap ahead by more, the stream's clock was set


class Lateness:
    """Of the frames of one connection, against the promptest of them: a lower bound of how old they are."""

    def __init__(self) -> None:
        self._base: float | None = None
        self._last = (0.0, 0.0)

    def __call__(self, time: float | None, stamp: float) -> float:
        """Seconds that a frame is late: `time` in the stream, `stamp` when it was here; 0 where it has no time."""
        if time is None:
            return 0.0
        passed, told = stamp - self._last[1], time - self._last[0]
        offset = stamp - time
        if self._base is None or not 0 <= told < passed + _LEAP:
            self._base = offset
        self._base = min(self._base + _DRIFT * max(passed, 0.0), offset)
        self._last = time, stamp
        return offset - self._base
