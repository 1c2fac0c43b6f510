"""An audit's folder at an address: a run works in a folder of this machine, and each file goes there whole.

Object storage has no locks, renames or files that grow, but what is put there appears whole. So a run fetches its
shard, works on it here as it does anywhere, and puts there what is new after each part, in an order in which nothing
refers to what is not there yet. The storage is the truth: what a killed run had not put there, at most the part of the
last minute and the deaths recorded since, is done again.

That a shard has one writer is up to who starts them. An object with a time stamp refuses a second one that starts while
the first is at work, and ends a run whose shard another one has taken; two that start in the same second both go on.
The same holds for `run.json`: shards that start in the same second are not held against each other.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aosa_fast.addresses import Address, Place
from aosa_fast.audit.store.merging import merge_mark
from aosa_fast.audit.store.run_folder import CLIPS, RUN, SHARDS, shard_name
from aosa_fast.boundary import reading
from aosa_fast.errors import InputError

LEASE = 600.0  # seconds after its last sign of life that a run is taken to be dead
_ORDER = ("dense", "attempts", RUN, CLIPS, SHARDS)  # in which files go there


@contextmanager
def working_folder(place: Place, shard: tuple[int, int] | None = None) -> Iterator[tuple[Path, Callable[[], None]]]:
    """The folder of this machine in which an audit is worked on or read, and what puts there what is new in it.

    Args:
        place: of the audit; a path is that folder, and then nothing has to be put anywhere.
        shard: (i, n), the part that is worked on; None: all of them are read, without their whole maps.

    Raises:
        InputError: the storage cannot be reached, read or written, or another run works on the shard.
    """
    if not isinstance(place, Address):
        yield place, lambda: None
        return
    with tempfile.TemporaryDirectory(prefix="aosa-fast-") as name:
        remote = _Remote(place, Path(name), shard)
        if shard is None:
            remote.fetch()
            yield remote.folder, lambda: None
            remote.put_notes()
            return
        remote.claim()
        try:
            remote.fetch()
            try:
                yield remote.folder, remote.put
            finally:
                remote.put()
        finally:
            remote.release()


class _Remote:
    def __init__(self, place: Address, folder: Path, shard: tuple[int, int] | None) -> None:
        self.folder, self._place, self._shard = folder, place, shard
        self._there: dict[str, tuple[int, int]] = {}  # size and time, here, of what is there as it is here
        self._folders: set[str] = set()
        self._token = secrets.token_hex(8)
        with self._reaching():
            from fsspec.core import url_to_fs

            self._system, self._root = url_to_fs(str(place))

    def fetch(self) -> None:
        """Fetches what there is of the shard, or of all of them."""
        with self._reaching():
            self._system.invalidate_cache()
            root = self._root.rstrip("/") + "/"
            for path in self._system.find(self._root):
                name = str(path).removeprefix(root)
                if self._is_wanted(name):
                    (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                    self._system.get_file(path, str(self.folder / name))
                    self._there[name] = _signature(self.folder / name)
        if self._shard is not None:
            merge_mark(self.folder, self._shard).touch()  # a run that was killed may have left parts that it merged

    def put(self) -> None:
        """Puts there what is new here, then removes there what is gone here."""
        self._check_claim()
        here = {
            name: _signature(path)
            for path in self.folder.rglob("*")
            if path.is_file() and self._is_wanted(name := path.relative_to(self.folder).as_posix())
        }
        with self._reaching():
            for name in sorted(here, key=lambda name: (_ORDER.index(name.split("/")[0]), name)):
                if self._there.get(name) != here[name] and not (name == RUN and self._system.exists(self._at(RUN))):
                    self._make_folder(self._at(name))
                    self._system.put_file(str(self.folder / name), self._at(name))
                    self._there[name] = here[name]
            for name in self._there.keys() - here.keys():
                self._system.rm_file(self._at(name))
                del self._there[name]

    def put_notes(self) -> None:
        """Puts there what a reader has noted beside the rows: verdicts, and what the model said of findings."""
        with self._reaching():
            for path in self.folder.glob("*.json"):
                if path.name != RUN and self._there.get(path.name) != _signature(path):
                    self._system.put_file(str(path), self._at(path.name))

    def claim(self) -> None:
        """Says that this run works on the shard."""
        held = self._claimed()
        age = time.time() - float(held.get("time", 0))
        if age < LEASE:
            raise InputError(
                f"{self._place}: must not be in use; a run on {held.get('host')} worked on its shard "
                f"{self._shard_text} {age:.0f} s ago; if it is dead, wait {LEASE - age:.0f} s, or remove {self._lock}"
            )
        self._sign()

    def release(self) -> None:
        """Lets another run work on the shard."""
        if self._claimed().get("token") == self._token:
            with self._reaching():
                self._system.rm_file(self._lock)

    def _check_claim(self) -> None:
        if self._claimed().get("token", self._token) != self._token:
            raise InputError(f"{self._place}: must not be in use; another run has taken its shard {self._shard_text}")
        self._sign()

    def _claimed(self) -> dict[str, Any]:
        with self._reaching():
            try:
                return dict(json.loads(self._system.cat_file(self._lock)))
            except FileNotFoundError:
                return {}

    def _sign(self) -> None:
        value = {"host": socket.gethostname(), "process": os.getpid(), "time": time.time(), "token": self._token}
        with self._reaching():
            self._make_folder(self._lock)
            self._system.pipe_file(self._lock, json.dumps(value).encode())

    def _make_folder(self, path: str) -> None:
        """Makes the folder of a file, where there are folders."""
        folder = path.rpartition("/")[0]
        if folder not in self._folders:
            self._system.makedirs(folder, exist_ok=True)
            self._folders.add(folder)

    @property
    def _shard_text(self) -> str:
        assert self._shard is not None
        return f"{self._shard[0]}/{self._shard[1]}"

    @property
    def _lock(self) -> str:
        assert self._shard is not None
        return self._at(f"{SHARDS}/{shard_name(self._shard)}.lock")

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _is_wanted(self, name: str) -> bool:
        """Whether a file belongs to what is worked on, or read."""
        folder, _, file = name.partition("/")
        if ".." in name.split("/") or "/." in name or name.endswith(".lock"):
            return False
        if folder not in _ORDER:
            return self._shard is None and not file and name.endswith(".json")
        if self._shard is None or name == RUN:
            return folder != "dense"
        own = shard_name(self._shard)
        return file.startswith((f"{own}.", f"part-{own}-"))

    def _reaching(self) -> Any:
        return reading(self._place, "must be the address of a folder that can be read and written")


def _signature(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns
