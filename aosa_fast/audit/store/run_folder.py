"""The folder of an audit: which run it holds, which shards of it are at work, and what became of each."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aosa_fast.boundary import read_json
from aosa_fast.errors import InputError
from aosa_fast.files import disk_error, list_folder, lock, make_folder, open_own, sync_folder, write_file, write_new

RUN_VERSION = 1
RUN = "run.json"
SHARDS = "shards"
CLIPS = "clips"
MOST_SHARDS = 1_000_000
FINISHED, UNFINISHED, MISSING = "finished", "unfinished", "missing"


class RunFolder:
    """A shard of an audit that this process works on, and no other; see `open_run`.

    Attributes:
        folder: of the audit.
        shard: (i, n), the part i of 1..n.
        earlier: what `finish` was told when this shard ended the last time; None if it never did.
    """

    def __init__(self, folder: Path, shard: tuple[int, int], lock: int) -> None:
        self.folder = folder
        self.shard = shard
        self.earlier = _read_finish(folder, shard)
        self._lock: int | None = lock
        if self.earlier is not None and self.earlier.get("finished"):
            self.finish({**self.earlier, "finished": False})  # it has begun again

    def finish(self, facts: dict[str, Any]) -> None:
        """Writes how the shard ended, in place of what an earlier run wrote.

        Args:
            facts: counts, seconds and the like, in plain types; "finished" says whether all its clips have a row.

        Raises:
            InputError: the disk is full, or the folder cannot be written.
        """
        path = _shard_path(self.folder, self.shard, ".json")
        value = {"format": RUN_VERSION, "shard": list(self.shard), "facts": facts}
        try:
            write_file(path, _encode(value), path.with_name(f".{path.stem}.tmp"))
            sync_folder(path.parent)
        except OSError as error:
            raise disk_error(self.folder, error) from None

    def close(self) -> None:
        """Lets another process work on the shard; a second call does nothing."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def open_run(folder: Path, identity: dict[str, Any], facts: dict[str, Any], shard: tuple[int, int]) -> RunFolder:
    """Begins an audit in a folder, or goes on with the one that it holds.

    Any number of shards may do so at the same time, on several machines; the first one writes `run.json`.

    Args:
        folder: made if it is missing.
        identity: what the rows depend on, in plain types. All shards and later runs must have the same; the number of
            shards is added to it.
        facts: what else is worth keeping of the first run: its command, its machine.
        shard: (i, n), the part i of 1..n.

    Raises:
        InputError: the folder holds another run or none that can be read, another process works on this shard, the
            disk is full, or the folder cannot be written.
    """
    number, count = shard
    if not 1 <= number <= count:
        raise InputError(f"shard must be i/n with i within 1..n; got {number}/{count}")
    if count > MOST_SHARDS:
        raise InputError(f"shard must be one of at most {MOST_SHARDS}; got {number}/{count}")
    # Through JSON, so that a tuple and the list that it becomes in the file are the same.
    now = json.loads(json.dumps({**identity, "shards": count}, allow_nan=False))
    run = {"format": RUN_VERSION, "identity": now, "facts": facts}
    try:
        has_clips = bool(list_folder(folder / CLIPS, ".parquet"))  # before the next line: clips come after run.json
        if (folder / RUN).exists():
            _compare(folder, now)  # before anything is written
        elif has_clips:
            raise InputError(f"{folder}: must hold {RUN} beside its {CLIPS}, or neither; it has {CLIPS} only")
        make_folder(folder, SHARDS)
        held = _lock(folder, shard)
        try:
            _create_run(folder, shard, run)
            _compare(folder, now)
            return RunFolder(folder, shard, held)
        except BaseException:
            os.close(held)
            raise
    except OSError as error:
        raise disk_error(folder, error) from None


def read_run(folder: Path) -> dict[str, Any]:
    """What `run.json` holds: "format", "identity" and "facts".

    Raises:
        InputError: the folder holds no audit, or one of another format.
    """
    path = folder / RUN
    if not path.is_file():
        raise InputError(f"{folder}: must be the folder of an audit; it has no {RUN}")
    run = _read_json(path)
    if not isinstance(run.get("identity"), dict) or not isinstance(run.get("facts"), dict):
        raise InputError(f"{path}: must hold the identity and the facts of an audit; it does not")
    shards = run["identity"].get("shards")
    if not isinstance(shards, int) or not 1 <= shards <= MOST_SHARDS:
        raise InputError(f"{path}: must say how many shards there are; got {_show(shards)}")
    return run


def read_shards(folder: Path) -> list[dict[str, Any]]:
    """What became of each shard, in their order.

    What `RunFolder.finish` was told, if it was called, with "shard", its number from 1, and "state": "finished",
    "unfinished" (at work, or ended before its end) or "missing" (never started).

    Raises:
        InputError: the folder holds no audit, or a file of it cannot be read.
    """
    count = read_run(folder)["identity"]["shards"]
    found = []
    for number in range(1, count + 1):
        shard = (number, count)
        facts = _read_finish(folder, shard) or {}
        state = UNFINISHED if facts or _shard_path(folder, shard, ".lock").exists() else MISSING
        found.append({**facts, "shard": number, "state": FINISHED if facts.get("finished") else state})
    return found


def shard_name(shard: tuple[int, int]) -> str:
    """Of (i, n): "<i>of<n>", with zeros in front such that names of shards sort by their number."""
    number, count = shard
    return f"{number:0{len(str(count))}}of{count}"


def _shard_path(folder: Path, shard: tuple[int, int], suffix: str) -> Path:
    return folder / SHARDS / f"{shard_name(shard)}{suffix}"


def _lock(folder: Path, shard: tuple[int, int]) -> int:
    descriptor = open_own(_shard_path(folder, shard, ".lock"))
    if not lock(descriptor):
        os.close(descriptor)
        raise InputError(f"{folder}: must not be in use; another run works on its shard {shard[0]}/{shard[1]}")
    return descriptor


def _create_run(folder: Path, shard: tuple[int, int], run: dict[str, Any]) -> None:
    """Writes run.json unless another shard was faster: it appears whole, and is never replaced."""
    path, temporary = folder / RUN, folder / f".run-{shard_name(shard)}.tmp"
    temporary.unlink(missing_ok=True)  # of a run that was killed right here
    if path.exists():
        return
    try:
        write_new(temporary, _encode(run))
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:
            # A file system without links. Two different runs that start in the same instant are not kept apart there.
            if not path.exists():
                os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(folder)


def _encode(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1, allow_nan=False).encode() + b"\n"


def _read_json(path: Path) -> dict[str, Any]:
    value = read_json(path, "must be JSON")
    if not isinstance(value, dict) or value.get("format") != RUN_VERSION:
        got = value.get("format") if isinstance(value, dict) else value
        raise InputError(f"{path}: must be of format {RUN_VERSION}; got {_show(got)}")
    return value


def _read_finish(folder: Path, shard: tuple[int, int]) -> dict[str, Any] | None:
    path = _shard_path(folder, shard, ".json")
    if not path.exists():
        return None
    facts = _read_json(path).get("facts")
    if not isinstance(facts, dict):
        raise InputError(f"{path}: must hold the facts of a shard; got {_show(facts)}")
    return facts


def _compare(folder: Path, now: dict[str, Any]) -> None:
    before = read_run(folder)["identity"]
    if "resize" in now.get("preprocessing", {}):  # which is younger than the format
        before["preprocessing"] = {"resize": "short", **before.get("preprocessing", {})}
    for name, held, given in _differences("identity", before, now):
        raise InputError(f"{folder}: must hold the same {name}; it holds {_show(held)}, and now is {_show(given)}")


_NOTHING = object()


def _differences(name: str, before: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """The dotted names of the values that differ, with both."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _differences(f"{name}.{key}", before.get(key, _NOTHING), now.get(key, _NOTHING))
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(f"{name}.{index}", one, other)
    elif before != now:
        yield name, before, now


def _show(value: Any) -> str:
    """A value in a message: one line, not long."""
    text = "nothing" if value is _NOTHING else value if isinstance(value, str) else json.dumps(value)
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return text if len(text) <= 80 else f"{text[:77]}..."
