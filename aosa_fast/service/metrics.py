"""What a service does, counted and timed for Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

from aosa_fast.version import __version__

STAGES = ("body", "decode", "queue", "model", "render")
REASONS = ("gone", "deadline", "overload", "draining")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class ServiceMetrics:
    """Counters and histograms of one service, of labels that no client can choose; from any thread.

    Attributes:
        queue_depth: clips that wait for the model.
        in_flight: requests that are being read, decoded, explained or answered.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Makes them, all at 0.

        Args:
            registry: has them; default: one of their own, with what the process uses.
        """
        self.registry = CollectorRegistry() if registry is None else registry
        if registry is None:
            ProcessCollector(registry=self.registry)
        own = self.registry
        self.queue_depth = Gauge("aosa_queue_clips", "Clips that wait for the model.", registry=own)
        self.in_flight = Gauge("aosa_requests_in_flight", "Requests that hold a place.", registry=own)
        self._requests = Counter("aosa_requests", "Requests that were answered.", ["status"], registry=own)
        self._seconds = Histogram(
            "aosa_request_seconds", "From a request to its answer.", buckets=_SECONDS, registry=own
        )
        self._stages = Histogram(
            "aosa_stage_seconds", "Of each stage of a request.", ["stage"], buckets=_SECONDS, registry=own
        )
        self._batches = Histogram(
            "aosa_batch_clips", "Clips that went through the model together.", buckets=(1, 2, 4, 8, 16, 32),
            registry=own,
        )  # fmt: skip
        self._dropped = Counter("aosa_dropped", "Requests that were given up, by reason.", ["reason"], registry=own)
        self._age = Histogram(
            "aosa_clip_age_seconds", "From a clip's request to its map.", buckets=_SECONDS, registry=own
        )
        self._info = Gauge("aosa_info", "What runs.", ["version", "model", "method"], registry=own)
        for stage in STAGES:
            self._stages.labels(stage)
        for reason in REASONS:
            self._dropped.labels(reason)

    def describe(self, model: str, method: str) -> None:
        """Says what runs."""
        self._info.labels(__version__, model, method).set(1)

    def request(self, status: int, seconds: float) -> None:
        """A request was answered, with this status of HTTP, after so many seconds."""
        self._requests.labels(str(int(status))).inc()
        self._seconds.observe(seconds)

    def stage(self, name: str, seconds: float) -> None:
        """A stage, one of `STAGES`, of one request took so many seconds."""
        assert name in STAGES, name
        self._stages.labels(name).observe(seconds)

    def batch(self, size: int) -> None:
        """So many clips go through the model together."""
        self._batches.observe(size)

    def dropped(self, reason: str) -> None:
        """A request was given up, for one of `REASONS`."""
        assert reason in REASONS, reason
        self._dropped.labels(reason).inc()

    def age(self, seconds: float) -> None:
        """The map of a clip is there, so many seconds after its request."""
        self._age.observe(seconds)

    def render(self) -> tuple[bytes, str]:
        """All of them in Prometheus' text format, and its media type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
