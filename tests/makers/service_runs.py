"""A service in this process, on a port of its own, with real HTTP."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from aosa_fast import models
from aosa_fast.config import Config
from aosa_fast.demo import demo_clip_path
from aosa_fast.service.access import Access
from aosa_fast.service.app import make_app
from aosa_fast.service.engine import Engine
from aosa_fast.service.metrics import ServiceMetrics
from aosa_fast.service.server import Server, listen
from aosa_fast.service.settings import Limits
from aosa_fast.service.uploads import Decoders
from aosa_fast.service.work import Work

CONFIG = Config(stride=16)
CLIP = demo_clip_path().read_bytes()
VIDEO = {"Content-Type": "video/mp4"}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        assert set(self.value) == {"error"}
        assert self.body.count(b"\n") == 1
        return str(self.value["error"])


@dataclass
class Served:
    """A service that runs.

    Attributes:
        port: of 127.0.0.1.
        work: of it.
        lines: that it said.
    """

    port: int
    work: Work
    lines: list[str]

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(self, method: str, path: str, body: Any = None, headers: Any = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            return ask(connection, method, path, body, headers)
        finally:
            connection.close()

    def explain(self, query: str = "", body: Any = CLIP, headers: Any = VIDEO) -> Answer:
        return self.ask("POST", f"/explain{query}", body, headers)

    def metric(self, name: str, headers: Any = None) -> float:
        """The value of a metric, by its name and labels; 0 where it is not there yet."""
        for line in self.ask("GET", "/metrics", headers=headers).body.decode().splitlines():
            if line.rpartition(" ")[0] == name:
                return float(line.rpartition(" ")[2])
        return 0.0


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: Any = None, headers: Any = None
) -> Answer:
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


@contextmanager
def serving(
    network: nn.Module | None = None,
    *,
    access: Access | None = None,
    config: Config = CONFIG,
    names: tuple[str, ...] | None = None,
    **limits: Any,
) -> Iterator[Served]:
    """Serves the embedded model, or its preprocessing with another network, or with other names of classes."""
    classifier = models.load("demo")
    classifier = replace(classifier, network=network or classifier.network, class_names=names or classifier.class_names)
    lines: list[str] = []
    bounds, metrics, ready = Limits(**{"decoders": 1, **limits}), ServiceMetrics(), threading.Event()
    with listen("127.0.0.1", 0) as listener:
        # The system would take a whole answer for a client that takes none of it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        work = Work(
            Engine(classifier, bounds, metrics, config=config),
            Decoders(classifier.preprocessing, bounds),
            bounds,
            metrics,
        )
        app = make_app(work, access or Access(), lines.append)
        server = Server(app, work, listener, lines.append, warmup=False, grace=20.0, ready=ready.set)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            assert ready.wait(60)
            yield Served(listener.getsockname()[1], work, lines)
        finally:
            server.stop()
            thread.join(60)
            assert not thread.is_alive()


class HeldNetwork(nn.Module):
    """The embedded network, but it does not answer while it is held.

    Attributes:
        let: whether it answers.
        asked: how many times it was asked.
    """

    def __init__(self, held: bool = True) -> None:
        super().__init__()
        self.network = models.load("demo").network
        self.let = threading.Event()
        self.asked = 0
        if not held:
            self.let.set()

    def forward(self, video: Tensor) -> Tensor:
        self.asked += 1
        assert self.let.wait(60)
        result: Tensor = torch.as_tensor(self.network(video))
        return result
