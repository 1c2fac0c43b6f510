"""Seconds per map, method by method (paper, Table V)."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Sequence

import torch

from aosa_fast.config import Config
from aosa_fast.data import Dataset
from aosa_fast.errors import InputError
from aosa_fast.evaluation.bootstrap import Estimate
from aosa_fast.evaluation.entries import Entry
from aosa_fast.inference.precision import model_device
from aosa_fast.models import Classifier
from aosa_fast.pipeline import explain
from aosa_fast.progress import Report, show_progress

# Of STEP's iterations so many are timed: they all take the same.
_TIMED_STEPS = 40


def time_methods(
    classifier: Classifier, dataset: Dataset, entries: Sequence[Entry], progress: Report | None = None
) -> tuple[dict[str, list[Estimate]], str]:
    """Times every method on the same clips, all in memory, one at a time; the first run of each is not counted.

    An entry's `clips` says on how many of the clips; `progress` is as for `evaluate`, a step a method.

    Returns:
        By name, the median of the clips' seconds, with the shortest and the longest as its ends, in a list; and a note
        for the reader.

    Raises:
        InputError: none of the clips can be read, or a method cannot explain the model.
    """
    clips, refused = [], []
    for sample in dataset.samples:
        try:
            clips.append(torch.from_numpy(dataset.read(sample, classifier.preprocessing).frames[None]))
        except InputError as error:
            refused.append(str(error))
    if not clips:
        raise InputError(refused[0] if refused else f"{dataset.name}: must have at least one clip; got none")
    seconds: dict[str, list[Estimate]] = {}
    with show_progress(progress, dataset.name) as report:
        for number, entry in enumerate(entries):
            report(number, len(entries), entry.name)
            seconds[entry.name] = [_time(classifier, clips[: entry.clips], entry.config)]
    device = model_device(classifier.network, torch.device("cpu"))
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return seconds, f"on {where}, {len(clips)} clips one at a time; STEP from {_TIMED_STEPS} of its iterations"


def _time(classifier: Classifier, clips: Sequence[torch.Tensor], config: Config) -> Estimate:
    factor = 1.0
    if config.method == "step" and config.step_count > _TIMED_STEPS:
        factor = config.step_count / _TIMED_STEPS
        config = dataclasses.replace(config, steps=_TIMED_STEPS)
    times = []
    for clip in (clips[0], *clips):
        start = time.perf_counter()
        explain(classifier, clip, config=config, progress=False)  # the results come back, so a GPU is done
        times.append((time.perf_counter() - start) * factor)
    del times[0]
    return Estimate(statistics.median(times), min(times), max(times), len(times))
