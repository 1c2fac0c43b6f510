"""Audits without decoders and models, for tests of the driver: `python -m audit_runs FOLDER CLIPS` is one of them."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from aosa_fast.audit import driver
from aosa_fast.audit.request import AuditRequest
from aosa_fast.audit.settings import AuditSettings, Ready, Setup
from aosa_fast.audit.tasks import Row, describe_sample
from aosa_fast.audit.workers.pool import Pool
from aosa_fast.data import Dataset, Sample
from aosa_fast.errors import InputError
from aosa_fast.models.preprocess import Preprocessing
from audit_rows import fake_row

FACTORIES = {"read": "audit_runs:Reader", "explain": "audit_runs:Explainer"}
PREPROCESSING = Preprocessing(4, 1, 32, (32, 32), (0.5,), (0.2,))


class Reader:
    """Reads nothing; ids with "bad" cannot be read."""

    def __init__(self, dataset: Dataset, preprocessing: Any, settings: AuditSettings) -> None:
        self.pause = 0.01 if "slow" in dataset.name else 0.0

    def prepare(self, sample: Sample) -> Sample:
        time.sleep(self.pause)
        if "bad" in sample.id:
            raise InputError(f"{sample.id}: must be a video; it is not")
        return sample


class Explainer:
    """Gives plausible rows."""

    def __init__(self, setup: Setup) -> None:
        if setup.model == "none":
            raise InputError("model must be one of ...; got none")
        config = setup.settings.config
        self.ready = Ready(
            PREPROCESSING, ("a", "b"), {0: 0, 1: 1}, f"weights of {setup.model}", config, "cpu", {"torch": "0"}
        )

    def explain(self, clips: list[Sample]) -> list[Row]:
        return [{**fake_row(clip.id), **describe_sample(clip)} for clip in clips]


def use_fakes(names: list[str], label: str = "fakes") -> None:
    """Lets the driver audit clips of these names, with the classes above."""
    samples = tuple(Sample(name, f"{name}.mp4", i % 2) for i, name in enumerate(names))
    dataset = Dataset(label, ("a", "b"), samples)

    def engine(request: AuditRequest, dataset: Dataset) -> driver.Engine:
        setup = driver.make_setup(request, dataset)
        return Pool(setup, replace(dataset, samples=()), devices=["cpu"], readers=2, factories=FACTORIES)

    driver.choose_clips = lambda request: dataset  # type: ignore[assignment]
    driver._engine = engine  # type: ignore[assignment]


def make_request(folder: Path, **changes: Any) -> AuditRequest:
    """An audit of the fakes into a folder."""
    settings = changes.pop("settings", AuditSettings(batch=4))
    return AuditRequest(data="fakes", model=changes.pop("model", "fake"), out=folder, settings=settings, **changes)


if __name__ == "__main__":
    count = int(sys.argv[2])
    use_fakes([f"{'bad' if i % 10 == 3 else 'clip'}/{i:04d}" for i in range(count)], "slow fakes")
    print("working", flush=True)  # noqa: T201 - the test waits for it
    driver.audit(make_request(Path(sys.argv[1])))
