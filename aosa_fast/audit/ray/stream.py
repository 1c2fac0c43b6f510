"""How Ray Data streams the tasks of an audit to actors, and their answers back."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from aosa_fast.audit.ray.actor import Explainers
from aosa_fast.audit.ray.tasks import Answer, Group, Work, dump, load
from aosa_fast.audit.workers.child import START_SECONDS
from aosa_fast.audit.workers.worker import describe

if TYPE_CHECKING:
    from aosa_fast.audit.ray.cluster import Share
    from aosa_fast.audit.settings import AuditSettings

_TASK = 32  # groups per task at most: between tasks an actor's processes have nothing to do for a moment
_TASKS_EACH = 8  # tasks that an actor does at least, as long as there are groups enough, so that all end together
_TRIES = 4  # times that a group may take as long as it may


class ClusterError(Exception):
    """What Ray raises, in one line."""


def stream(
    ray: Any, work: Work, hands: Any, share: Share, groups: Sequence[Group], tasks: Iterator[int]
) -> Generator[Answer, None, None]:
    """Has groups explained by actors.

    Args:
        ray: the library, connected.
        work: for the actors.
        hands: handle of the actor that is a `Hands`.
        share: how many actors, and what each gets.
        groups: all that are handed out.
        tasks: numbers for the tasks that they are put into.

    Yields:
        Answers, in any order. An actor that was lost may have given one of them already.

    Raises:
        ClusterError: whatever Ray raises. Some answers may be missing then.
    """
    batches = None
    try:
        dataset = _plan(ray, work, hands, share, groups, tasks)
        batches = iter(dataset.iter_batches(batch_size=None, batch_format="pyarrow"))
        while (batch := next(batches, None)) is not None:
            for content in batch.column("answer").to_pylist():
                yield load(content)
    except Exception as error:  # noqa: BLE001 - Ray's own, and what its threads raise
        raise ClusterError(describe(error)) from None
    finally:
        if batches is not None:
            batches.close()


def _plan(ray: Any, work: Work, hands: Any, share: Share, groups: Sequence[Group], tasks: Iterator[int]) -> Any:
    """Tasks to actors to answers. A task is one row of a block of its own: Ray Data is not to put them together."""
    import pyarrow

    blocks = [
        pyarrow.table({"number": [next(tasks)], "groups": pyarrow.array([dump(some)], pyarrow.binary())})
        for some in cut(groups, share.actors)
    ]
    _silence()
    data = ray.data
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own defaults are deprecated
        with data.DataContext.current(_context(data, work.setup.settings)):
            return data.from_blocks(blocks).map_batches(
                Explainers,
                fn_constructor_args=(work, hands),
                batch_size=1,
                batch_format="pyarrow",
                compute=data.ActorPoolStrategy(size=min(share.actors, len(blocks)), max_tasks_in_flight_per_actor=2),
                num_cpus=share.cpus,
                num_gpus=share.gpus or None,
            )


def _context(data: Any, settings: AuditSettings) -> Any:
    context = data.DataContext.get_current().copy()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_options.preserve_order = False
    context.target_max_block_size = 1  # bytes, so that each answer is passed on when it is there
    context.max_consecutive_actor_init_deaths = settings.max_restarts
    if context.execution_no_progress_timeout_s > 0:
        longest = START_SECONDS + _TRIES * settings.batch * settings.clip_seconds
        context.execution_no_progress_timeout_s = max(context.execution_no_progress_timeout_s, longest)
    return context


def cut(groups: Sequence[Group], actors: int) -> Iterator[list[Group]]:
    """The groups of each task: many at first, few at the end, where actors would wait for each other.

    Only the last group of a task may be a short one, or the next one's clips would fill it up.
    """
    full = max((len(group.samples) for group in groups), default=0)
    begin = 0
    while begin < len(groups):
        size = min(max((len(groups) - begin) // (_TASKS_EACH * actors), 1), _TASK)
        task = list(groups[begin : begin + size])
        short = next((i for i, group in enumerate(task) if len(group.samples) < full), len(task))
        yield task[: short + 1]
        begin += min(short + 1, len(task))


def _silence() -> None:
    """Keeps Ray Data's log off the terminal; the session's files have it."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)
