"""The Ray cluster of an audit: found or started, and how its machines are shared out among actors."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import tempfile
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from aosa_fast.errors import InputError
from aosa_fast.libraries import check_libraries
from aosa_fast.processes import cores

NAMESPACE = "aosa-fast"
_STORE = 300_000_000  # bytes; what passes through it is some 20 kB a clip
_REACH = 10.0  # seconds in which whatever is at an address must answer
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # how a client begins HTTP/2
_SETTINGS = 4  # kind of the first frame that a server then sends


@dataclass(frozen=True)
class Share:
    """How many actors there are, and what each gets."""

    actors: int
    cpus: float  # below 1 where there are as many actors as CPUs
    gpus: int  # 0 or 1


def import_ray() -> Any:
    """Ray. Raises an InputError if it is missing, or a library that it needs."""
    check_libraries("ray", extra="ray", what="engine=ray")
    import ray

    return ray


class Cluster:
    """A connection to a Ray cluster."""

    def __init__(self, address: str | None) -> None:
        """Connects to a cluster, or starts one on this machine.

        Where this process is connected already, that cluster is used, and left as it is.

        Args:
            address: HOST:PORT, or "auto" for the cluster that this machine belongs to; None starts one here.

        Raises:
            InputError: Ray is missing, nothing answers at the address, or Ray refuses.
        """
        self.ray = import_ray()
        self._mine = not self.ray.is_initialized()
        if not self._mine:
            return
        if address is not None:
            _check_address(address)
        elif not any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
            # Else Ray makes one, and leaves it in the home folder, where it counts for other clusters, too.
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        where: dict[str, Any] = {"address": address}
        if address is None:
            where = {"address": "local", "num_cpus": cores(), "object_store_memory": _STORE, "include_dashboard": False}
        on_main = threading.current_thread() is threading.main_thread()
        self._handler = signal.getsignal(signal.SIGTERM) if on_main else None  # Ray sets its own, and leaves it
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.ray.init(**where, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR")
        except BaseException as error:
            self.close()
            if not isinstance(error, (Exception, SystemExit)):
                raise
            rule = f"address must be of a Ray cluster that this machine can join; got {address}: "
            if address is None:
                rule = "engine=ray must be able to start Ray here; "
            raise InputError(rule + _line(error)) from None
        self._print(False)

    def share(self, actors: int, gpu: bool | None) -> Share:
        """As `share_out`, for the machines that are up; None: with a GPU each where there is one at all."""
        resources = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        nodes = [(node.get("CPU", 0.0), int(node.get("GPU", 0))) for node in resources]
        return share_out(nodes, actors, any(gpus for _, gpus in nodes) if gpu is None else gpu)

    def close(self) -> None:
        """Disconnects, and ends a cluster that was started here."""
        if self._mine:
            self._mine = False
            self.ray.shutdown()
            self._print(True)
            if self._handler is not None:
                signal.signal(signal.SIGTERM, self._handler)

    def _print(self, wanted: bool) -> None:
        """Whether Ray may print whatever goes wrong anywhere on the cluster, among this program's output."""
        self.ray._private.worker._worker_logs_enabled = wanted  # there is no other switch for it


def share_out(nodes: Sequence[tuple[float, int]], actors: int, gpu: bool) -> Share:
    """How many actors there are, and what each gets.

    On every machine one CPU, or half of a single one, is left to Ray: where actors take all of them, whatever else
    Ray has to do waits for ever, without a word.

    Args:
        nodes: CPUs and GPUs of each machine.
        actors: how many; 0: one per GPU, or one per machine.
        gpu: whether each needs a GPU.

    Returns:
        As many CPUs for each as possible, so that all actors find room.

    Raises:
        InputError: there is not enough for so many.
    """
    usable = [(cpus, gpus) for cpus, gpus in nodes if cpus >= 1 and (gpus or not gpu)]
    what = "GPU" if gpu else "CPU"
    most = sum(gpus if gpu else int(cpus) for cpus, gpus in usable)
    if not most:
        raise InputError(f"the Ray cluster must have a {what} for each actor; it has none")
    count = actors or (most if gpu else len(usable))
    if count > most:
        raise InputError(f"actors must be at most {most}, one per {what} of the Ray cluster; got {count}")
    free = [(cpus - min(1.0, cpus / 2), gpus if gpu else int(cpus)) for cpus, gpus in usable]
    choices = {_round(cpus / k) for cpus, slots in free for k in range(1, slots + 1)}
    fitting = [c for c in choices if sum(min(int(cpus / c + 1e-9), slots) for cpus, slots in free) >= count]
    return Share(count, max(fitting), int(gpu))


def _round(cpus: float) -> float:
    """Ray has whole CPUs, or fractions of one."""
    return float(int(cpus)) if cpus >= 1 else max(int(cpus * 100) / 100, 0.01)


def _check_address(address: str) -> None:
    """Finds out whether something like Ray answers: Ray itself tries for minutes, and then ends this process."""
    if "://" in address:
        raise InputError(f"address must be HOST:PORT of a cluster that this machine belongs to, or auto; got {address}")
    if address == "auto":
        note = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir(), "ray", "ray_current_cluster")
        found = os.environ.get("RAY_ADDRESS") or (note.read_text("utf-8").strip() if note.is_file() else "")
        if not found or "://" in found:
            return  # Ray says at once that there is none
        address = found
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if host is None or port is None:
        raise InputError(f"address must be HOST:PORT, or auto; got {address}")
    try:
        with socket.create_connection((host, port), timeout=_REACH) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("0", "false", ""):
                connection.sendall(_HELLO)
                answer = connection.recv(9, socket.MSG_WAITALL)
                if len(answer) < 9 or answer[3] != _SETTINGS:
                    raise InputError(f"address must be of a Ray cluster; what is at {address} is something else")
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise InputError(f"address must be of a Ray cluster; {address} does not answer: {reason}") from None


def _line(error: BaseException) -> str:
    """The first line of what Ray says, and of the reason."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return said if error.__cause__ is None else f"{said}: {_line(error.__cause__)}"
