"""A bounded queue before a model, and the thread that takes batches from it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from aosa_fast.errors import describe_error
from aosa_fast.service.errors import OverloadedError, RequestError
from aosa_fast.service.metrics import ServiceMetrics

Item = TypeVar("Item")
Result = TypeVar("Result")

_NEWER = 0.2  # share of the last batch in what a batch takes


@dataclass(eq=False)
class _Entry(Generic[Item, Result]):
    item: Item
    deadline: float
    arrived: float = field(default_factory=time.monotonic)
    future: Future[Result] = field(default_factory=Future)


class Batcher(Generic[Item, Result]):
    """Takes items from any thread, and runs them in batches, in the order in which they came, in a thread of its own.

    A batch starts as soon as it is full, or its first item has waited for long enough; while one runs, the next fills.
    Whatever happens to an item, the others do not notice it: where a batch fails, its items are run one by one, and
    those that nobody waits for any more are not run.

    Attributes:
        size: items in a batch, at most; may be set while it works.
        seconds: what a batch takes, the newer ones counting more; 0 before the first.
    """

    def __init__(
        self,
        run: Callable[[list[Item]], list[Result]],
        *,
        size: int,
        queue: int,
        wait: float,
        patience: float,
        metrics: ServiceMetrics,
    ) -> None:
        """Starts the thread.

        Args:
            run: makes one result for each item; always called in the same thread.
            size: see above.
            queue: items that wait, at most.
            wait: how long the first item of a batch waits for others, seconds.
            patience: how long `run` may take, seconds, until the thread counts as stuck.
            metrics: are told how many wait, and who was not served.
        """
        self._run, self.size, self._queue, self._wait = run, size, queue, wait
        self.seconds = 0.0
        self._patience, self._metrics = patience, metrics
        self._waiting: dict[Future[Result], _Entry[Item, Result]] = {}  # in the order in which they came
        self._changed = threading.Condition()
        self._closed = False
        self._began: float | None = None
        self._thread = threading.Thread(target=self._work, name="aosa_fast-model", daemon=True)
        self._thread.start()

    def submit(self, item: Item, deadline: float) -> Future[Result]:
        """Queues an item.

        Args:
            item: for `run`.
            deadline: on the monotonic clock; an item that still waits then is not run, and fails with status 504.

        Returns:
            What will have the result. To cancel it frees the item's place at once.

        Raises:
            OverloadedError: too many wait, or it is closed.
        """
        entry: _Entry[Item, Result] = _Entry(item, deadline)
        with self._changed:
            late = self._remove_late()
            # Where nothing runs, the next batch is about to: its items do not wait.
            most = self._queue + (self.size if self._began is None else 0)
            refused = "draining" if self._closed else "overload" if len(self._waiting) >= most else None
            if refused is None:
                self._waiting[entry.future] = entry
            self._note()
        self._fail_late(late)
        if refused is not None:
            self._metrics.dropped(refused)
            raise _refusal(refused)
        # Without the entry: a future that leads to itself would keep its result until the garbage is collected.
        entry.future.add_done_callback(partial(self._forget, deadline))
        return entry.future

    def close(self, drain: bool = True, timeout: float | None = None) -> bool:
        """Takes nothing any more, and fails what waits; with `drain`, runs that first, for `timeout` seconds at most.

        Returns:
            Whether the thread has ended: what runs goes on.
        """
        with self._changed:
            self._closed = True
            left = [] if drain else self._remove(list(self._waiting))
            self._note()
        for entry in left:
            self._metrics.dropped("draining")
            _settle(entry, error=_refusal("draining"))
        if drain:
            self._thread.join(timeout)
            if self._thread.is_alive():
                self.close(drain=False)
        return not self._thread.is_alive()

    @property
    def is_alive(self) -> bool:
        """Whether the thread works, and has not been stuck in one call of `run`."""
        began = self._began
        return self._thread.is_alive() and (began is None or time.monotonic() - began < self._patience)

    def _work(self) -> None:
        while self._turn():
            pass

    def _turn(self) -> bool:
        """Waits for a batch and runs it; False where there will be none. In a frame of its own: results are let go."""
        batch = self._take()
        if batch:
            self._serve(batch)
        return bool(batch) or not self._closed

    def _take(self) -> list[_Entry[Item, Result]]:
        with self._changed:
            while (left := self._until_due()) > 0:
                self._changed.wait(left if left < threading.TIMEOUT_MAX else None)
            late = self._remove_late()
            batch = self._remove(list(self._waiting)[: self.size])
            self._began = time.monotonic() if batch else None
            self._note()
        self._fail_late(late)
        return batch

    def _until_due(self) -> float:
        """Seconds until a batch is to be run; inf where nothing waits."""
        if self._closed or len(self._waiting) >= min(self.size, self._queue):
            return 0.0
        if not self._waiting:
            return math.inf
        due = next(iter(self._waiting.values())).arrived + self._wait
        # Nobody waits for others until it is too late.
        return 0.0 if any(entry.deadline <= due for entry in self._waiting.values()) else due - time.monotonic()

    def _serve(self, batch: list[_Entry[Item, Result]]) -> None:
        self._began = time.monotonic()
        try:
            results = self._run([entry.item for entry in batch])
        except BaseException as error:  # noqa: BLE001 - the thread must survive whatever somebody's model raises
            if len(batch) == 1:
                _settle(batch[0], error=_failure(error))
                return
        else:
            took = time.monotonic() - self._began
            self.seconds += (took - self.seconds) * (_NEWER if self.seconds else 1.0)
            for entry, result in zip(batch, results, strict=True):
                _settle(entry, result)
            return
        finally:
            self._began = None
        # Outside of the handler, whose traceback holds on to what may not have fitted into memory.
        for entry in batch:
            if entry.deadline <= time.monotonic():
                self._fail_late([entry])
            elif not entry.future.cancelled():
                self._serve([entry])

    def _remove_late(self) -> list[_Entry[Item, Result]]:
        now = time.monotonic()
        return self._remove([future for future, entry in self._waiting.items() if entry.deadline <= now])

    def _remove(self, futures: Iterable[Future[Result]]) -> list[_Entry[Item, Result]]:
        return [self._waiting.pop(future) for future in futures]

    def _fail_late(self, late: Iterable[_Entry[Item, Result]]) -> None:
        """Outside of the lock, since whoever waits for a future is called."""
        for entry in late:
            if not entry.future.cancelled():
                self._metrics.dropped("deadline")
            _settle(entry, error=RequestError(504, "the time limit passed before the model was free"))

    def _forget(self, deadline: float, future: Future[Result]) -> None:
        """Called when a future is done, whatever that was: who cancelled it leaves no place taken."""
        if not future.cancelled():
            return
        self._metrics.dropped("gone" if time.monotonic() < deadline else "deadline")
        with self._changed:
            if self._waiting.pop(future, None) is not None:
                self._note()

    def _note(self) -> None:
        self._metrics.queue_depth.set(len(self._waiting))
        self._changed.notify_all()


def _settle(entry: _Entry[Item, Result], result: Result | None = None, *, error: BaseException | None = None) -> None:
    """Gives a future its result, unless nobody wants it any more."""
    if not entry.future.set_running_or_notify_cancel():
        return
    if error is None:
        entry.future.set_result(result)  # type: ignore[arg-type]
    else:
        entry.future.set_exception(error)


def _failure(error: BaseException) -> Exception:
    """What a future fails with; the frames of its error, which keep the clips, are for bugs only."""
    if isinstance(error, RequestError):
        return error.with_traceback(None)
    return error if isinstance(error, Exception) else RequestError(500, f"model: {describe_error(error)}")


def _refusal(reason: str) -> OverloadedError:
    if reason == "draining":
        return OverloadedError("the service is shutting down")
    return OverloadedError("too many clips wait for the model: try again soon")
