"""Clips from anybody, batches to the model: bounded, fair, and nobody pays for another."""

from __future__ import annotations

import gc
import random
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families
from torch import Tensor, nn

from aosa_fast import Explanation, explain
from aosa_fast.config import Config
from aosa_fast.models import Classifier
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.service.engine import Engine
from aosa_fast.service.errors import OverloadedError, RequestError
from aosa_fast.service.metrics import ServiceMetrics
from aosa_fast.service.settings import Limits

PREPROCESSING = Preprocessing(frames=4, stride=1, size=24, crop=(24, 20), mean=(0.5,) * 3, std=(0.25,) * 3)
NAMES = ("run", "jump", "sit")
WHITE = np.full((4, 24, 20, 3), 255, np.uint8)
SECONDS = 20.0  # that a test waits at most


class Gate(nn.Module):
    """A small model that waits where it is told to, fails on white clips, and notes how many clips come at once."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.head = nn.Linear(4, 3)
        self.open, self.entered = threading.Event(), threading.Event()
        self.open.set()
        self.seen: list[int] = []
        self.failure: BaseException = RuntimeError("too bright")

    def hold(self) -> None:
        self.open.clear()
        self.entered.clear()

    def forward(self, video: Tensor) -> Tensor:
        self.seen.append(len(video))
        self.entered.set()
        assert self.open.wait(SECONDS)
        if bool((video.amin((1, 2, 3, 4)) > 1.9).any()):
            raise self.failure
        return self.head(self.body(video))


def clip(seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, WHITE.shape, np.uint8)


@contextmanager
def engine(
    *, warm: bool = True, method: str = "aosa-approx", metrics: ServiceMetrics | None = None, **limits: Any
) -> Iterator[tuple[Engine, Gate]]:
    gate = Gate()
    config = Config(method=method, stride=8, box=7, route="as-is", batch_size=limits.get("batch", 4))
    classifier, bounds = Classifier(gate, PREPROCESSING, NAMES), Limits(**{"wait_ms": 0.0, **limits})
    own = Engine(classifier, bounds, metrics or ServiceMetrics(), config=config)
    try:
        if warm:
            own.warmup()
        yield own, gate
    finally:
        gate.open.set()
        own.close()


@pytest.fixture
def no_collection() -> Iterator[None]:
    """What is let go must be freed at once: the garbage is collected too rarely for things of this size."""
    gc.disable()
    yield
    gc.enable()


def later(seconds: float = SECONDS) -> float:
    return time.monotonic() + seconds


def busy(own: Engine, gate: Gate) -> Future[Explanation]:
    """A clip that the model is held at."""
    gate.hold()
    first = own.submit(clip(0), deadline=later())
    assert gate.entered.wait(SECONDS)
    return first


def value(own: ServiceMetrics, name: str, **labels: str) -> float:
    text = own.render()[0].decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return next(sample.value for sample in samples if sample.name == name and sample.labels == labels)


def test_each_clip_of_a_batch_is_explained_as_if_it_were_alone():
    targets = ("pred", "jump", "2")
    with engine() as (own, gate):
        first = busy(own, gate)
        futures = [own.submit(clip(i), target, deadline=later()) for i, target in enumerate(targets)]
        gate.open.set()
        found = [future.result(SECONDS) for future in futures]
        assert first.result(SECONDS).metadata["service"]["batch"] == 1
        for i, (target, one) in enumerate(zip(targets, found, strict=True)):
            alone = explain(own.classifier, torch.from_numpy(clip(i)[None]), target, config=one.config)
            assert one.metadata["service"]["batch"] == 3
            assert one.metadata["target"] == alone.metadata["target"]
            for name in ("saliency", "scores", "logits", "relevance"):
                torch.testing.assert_close(getattr(one, name), getattr(alone, name), rtol=1e-4, atol=1e-6)
            for name in ("tracks", "alive", "coverage"):
                assert torch.equal(getattr(one, name), getattr(alone, name))


def test_a_clip_waits_for_others_no_longer_than_it_is_told_to():
    with engine(wait_ms=300.0) as (own, _):
        futures = [own.submit(clip(i), deadline=later()) for i in range(2)]
        facts = [future.result(SECONDS).metadata["service"] for future in futures]
        assert facts[0]["queue"] >= 0.3
        assert [fact["batch"] for fact in facts] == [2, 2]


def test_a_full_batch_waits_for_nobody():
    with engine(wait_ms=60_000.0) as (own, _):
        futures = [own.submit(clip(i), deadline=later(1000)) for i in range(4)]
        assert [future.result(SECONDS).metadata["service"]["batch"] for future in futures] == [4] * 4


def test_time_to_wait_is_no_time_limit():
    with engine(wait_ms=60_000.0) as (own, _):
        assert len(own.submit(clip(0), deadline=later(5)).result(SECONDS).saliency) == 1


def test_a_full_queue_refuses_at_once_and_serves_the_rest():
    with engine(queue=2, batch=4) as (own, gate):
        first = busy(own, gate)
        waiting = [own.submit(clip(i), deadline=later()) for i in range(2)]
        with pytest.raises(OverloadedError, match="try again") as refused:
            own.submit(clip(9), deadline=later())
        assert refused.value.status == 503
        gate.open.set()
        assert all(len(future.result(SECONDS).saliency) == 1 for future in (first, *waiting))


def test_who_goes_away_frees_the_place_at_once():
    with engine(queue=1) as (own, gate):
        first = busy(own, gate)
        for _ in range(20):
            assert own.submit(clip(1), deadline=later()).cancel()
        second = own.submit(clip(2), deadline=later())
        gate.seen.clear()
        gate.open.set()
        assert {len(future.result(SECONDS).saliency) for future in (first, second)} == {1}
        assert max(gate.seen) == 1


def test_who_goes_away_while_the_model_runs_changes_nothing_for_others():
    with engine() as (own, gate):
        busy(own, gate)
        futures = [own.submit(pictures, deadline=later()) for pictures in (clip(1), clip(2), WHITE)]
        limit = later(2.0)
        late = own.submit(clip(3), deadline=limit)
        gate.seen.clear()
        gate.entered.clear()
        gate.open.set()
        gate.open.clear()
        assert gate.entered.wait(SECONDS)
        assert futures[1].cancel()
        time.sleep(max(0.0, limit - time.monotonic()) + 0.01)
        gate.open.set()
        assert len(futures[0].result(SECONDS).saliency) == 1
        for future, status in ((futures[2], 500), (late, 504)):
            with pytest.raises(RequestError) as failed:
                future.result(SECONDS)
            assert failed.value.status == status
        assert gate.seen == [4, 1, 1]  # nobody waits any more for the other two
        with pytest.raises(CancelledError):
            futures[1].result(0)


def test_batches_are_taken_in_the_order_in_which_clips_came():
    done: list[int] = []
    with engine(batch=2) as (own, gate):
        busy(own, gate)
        for i in range(7):
            future = own.submit(clip(i), NAMES[i % 3] if i % 2 else "pred", deadline=later())
            future.add_done_callback(lambda _, i=i: done.append(i))
        gate.seen.clear()
        gate.open.set()
        future.result(SECONDS)
    assert done == [*range(7)]
    assert gate.seen == [2, 2, 2, 1]


def test_nothing_is_kept_of_what_was_answered(no_collection):
    with engine(batch=2) as (own, gate):
        busy(own, gate)
        futures = [own.submit(clip(i), deadline=later()) for i in range(2)]
        gate.open.set()
        kept = futures[0].result(SECONDS)
        other = futures[1].result(SECONDS)
        assert all(
            part.untyped_storage().nbytes() == part.nbytes for part in (kept.saliency, kept.tracks, kept.relevance)
        )
        assert kept.frames.nbytes == WHITE.nbytes
        gone = weakref.ref(other)
        del futures, other
        until = later()
        while gone() is not None and time.monotonic() < until:
            time.sleep(0.01)
        assert gone() is None


def test_many_who_come_and_go_at_once():
    metrics = ServiceMetrics()

    def visit(own: Engine, seed: int) -> str:
        chance = random.Random(seed)
        pictures = WHITE if chance.random() < 0.2 else clip(seed)
        try:
            future = own.submit(pictures, deadline=later(chance.choice([0.01, 0.05, SECONDS])))
            if chance.random() < 0.3:
                time.sleep(0.02 * chance.random())
                future.cancel()
            return str(len(future.result(SECONDS).saliency))
        except (CancelledError, RequestError) as error:
            return type(error).__name__ if isinstance(error, CancelledError) else str(error.status)

    with engine(queue=6, wait_ms=2.0, metrics=metrics) as (own, _), ThreadPoolExecutor(12) as visitors:
        said = list(visitors.map(lambda seed: visit(own, seed), range(150)))
        assert len(own.submit(clip(0), deadline=later()).result(SECONDS).saliency) == 1
        assert own.alive
    assert set(said) <= {"1", "500", "503", "504", "CancelledError"}
    assert value(metrics, "aosa_queue_clips") == 0
    assert value(metrics, "aosa_dropped_total", reason="overload") == said.count("503")


def test_what_waits_past_its_deadline_is_not_run():
    with engine(queue=2) as (own, gate):
        busy(own, gate)
        late = [own.submit(WHITE, deadline=later(0.01)) for _ in range(2)]
        time.sleep(0.02)
        fresh = own.submit(clip(1), deadline=later())
        for future in late:
            with pytest.raises(RequestError, match="time limit") as refused:
                future.result(SECONDS)
            assert refused.value.status == 504
        gate.open.set()
        assert len(fresh.result(SECONDS).saliency) == 1


@pytest.mark.parametrize("failure", [RuntimeError("too bright"), SystemExit(3), MemoryError()])
def test_a_clip_that_makes_the_model_fail_fails_alone(failure):
    with engine() as (own, gate):
        gate.failure = failure
        busy(own, gate)
        futures = [own.submit(pictures, deadline=later()) for pictures in (clip(1), WHITE, clip(2))]
        gate.open.set()
        assert len(futures[0].result(SECONDS).saliency) == len(futures[2].result(SECONDS).saliency) == 1
        with pytest.raises(RequestError, match=type(failure).__name__) as failed:
            futures[1].result(SECONDS)
        assert failed.value.status == 500
        assert "\n" not in failed.value.reason
        assert own.alive


@pytest.mark.parametrize(("target", "said"), [("fly", "run, jump, sit"), ("3", "from 0 to 2"), ("-1", "from 0 to 2")])
def test_an_unknown_target_is_refused_at_once(target, said):
    with engine(warm=False) as (own, gate):
        with pytest.raises(RequestError, match=said) as refused:
            own.submit(clip(0), target, deadline=later())
        assert refused.value.status == 422
        with pytest.raises(RequestError, match="clip must have shape"):
            own.submit(clip(0)[:2], deadline=later())
        assert gate.seen == []


def test_closing_explains_what_waits_and_takes_no_more():
    with engine(wait_ms=60_000.0) as (own, _):
        waiting = own.submit(clip(0), deadline=later(1000))
        own.close()
        assert len(waiting.result(0).saliency) == 1
        with pytest.raises(OverloadedError, match="shutting down"):
            own.submit(clip(0), deadline=later())
        assert not own.alive


def test_closing_at_once_refuses_what_waits():
    with engine() as (own, gate):
        first = busy(own, gate)
        waiting = own.submit(clip(1), deadline=later())
        own.close(drain=False)
        with pytest.raises(OverloadedError, match="shutting down"):
            waiting.result(SECONDS)
        gate.open.set()
        assert len(first.result(SECONDS).saliency) == 1


def test_closing_gives_up_on_a_model_that_does_not_answer_in_time():
    with engine() as (own, gate):
        busy(own, gate)
        waiting = own.submit(clip(1), deadline=later())
        own.close(timeout=0.05)
        with pytest.raises(OverloadedError, match="shutting down"):
            waiting.result(0)


def test_a_broken_accelerator_is_not_alive():
    with engine() as (own, gate):
        gate.failure = RuntimeError("CUDA error: an illegal memory access was encountered")
        with pytest.raises(RequestError, match="illegal memory"):
            own.submit(WHITE, deadline=later()).result(SECONDS)
        assert not own.alive


def test_a_model_that_never_answers_is_not_alive():
    with engine(timeout=0.01) as (own, gate):
        assert own.alive
        busy(own, gate)
        time.sleep(0.15)
        assert not own.alive


def test_metrics_say_what_became_of_each_clip():
    metrics = ServiceMetrics()
    with engine(queue=3, metrics=metrics) as (own, gate):
        busy(own, gate)
        served = own.submit(clip(1), deadline=later())
        gone = own.submit(clip(2), deadline=later())
        last = own.submit(clip(3), deadline=later())
        assert value(metrics, "aosa_queue_clips") == 3
        with pytest.raises(OverloadedError):
            own.submit(clip(4), deadline=later())
        gone.cancel()
        late = own.submit(clip(5), deadline=later(0.01))
        time.sleep(0.02)
        gate.open.set()
        assert served.result(SECONDS).metadata["service"]["batch"] == 2
        assert last.result(SECONDS).metadata["service"]["batch"] == 2
        with pytest.raises(RequestError):
            late.result(SECONDS)
        own.close()
        with pytest.raises(OverloadedError):
            own.submit(clip(4), deadline=later())
    for reason in ("gone", "deadline", "overload", "draining"):
        assert value(metrics, "aosa_dropped_total", reason=reason) == 1
    assert value(metrics, "aosa_queue_clips") == 0
    assert value(metrics, "aosa_batch_clips_count") == 2
    assert value(metrics, "aosa_batch_clips_sum") == 3
    assert value(metrics, "aosa_stage_seconds_count", stage="model") == 3
    assert value(metrics, "aosa_stage_seconds_count", stage="queue") == 3


def test_metrics_of_requests():
    metrics = ServiceMetrics()
    metrics.in_flight.inc()
    metrics.request(200, 0.004)
    metrics.request(503, 70.0)
    metrics.age(0.2)
    assert value(metrics, "aosa_requests_in_flight") == 1
    assert value(metrics, "aosa_requests_total", status="503") == 1
    assert value(metrics, "aosa_request_seconds_bucket", le="0.005") == 1
    assert value(metrics, "aosa_request_seconds_bucket", le="60.0") == 1
    assert value(metrics, "aosa_request_seconds_count") == 2
    assert value(metrics, "aosa_clip_age_seconds_count") == 1
    assert value(metrics, "process_resident_memory_bytes") > 1e6
    assert metrics.render()[1].startswith("text/plain")
