"""WebDataset: clips in tar files, read where they lie, never unpacked."""

from __future__ import annotations

import itertools
import json
import re
import tarfile
from collections.abc import Iterator
from typing import Any

from aosa_fast.addresses import locate, member
from aosa_fast.boundary import open_file, reading
from aosa_fast.data.dataset import Dataset, Sample
from aosa_fast.data.folders import VIDEO_SUFFIXES
from aosa_fast.data.huggingface import LABELS
from aosa_fast.data.labels import index_labels
from aosa_fast.data.tables import Row
from aosa_fast.errors import InputError
from aosa_fast.video.series import SUFFIXES

_CLIPS = (*VIDEO_SUFFIXES, *SUFFIXES)
_TEXTS = (".cls", ".json", ".txt")  # where the class may be, the surest first
_LONGEST = 1 << 20  # bytes of such a file
_BLOCK = 1 << 16  # bytes: between two headers lies a clip, which is not wanted
_MOST_SHARDS = 1_000_000


def open_webdataset(shards: str) -> Dataset:
    """Clips in tar files; members with the same path up to the first dot of their name are one sample.

    A sample has one video, or an image, which is a clip of one frame; the first one is taken. Its class is what
    NAME.cls holds, a number or a name; else the value of cls, label, label_name, class, class_name or category in
    NAME.json; else the text of NAME.txt. Ids are SHARD/NAME. The headers of all shards are read now, in turn.

    Args:
        shards: a path or an address, or a pattern of some: "data-{000..009}.tar", "{train,test}.tar".

    Raises:
        InputError: a file is missing or no tar file, a label that cannot be read, or no clip in all of them.
    """
    rows: dict[str, Row] = {}
    paths: dict[str, str] = {}
    for shard in expand(shards):
        for key, clip, values in _samples(shard):
            id = f"{locate(shard).stem}/{key}"
            if id in rows:
                raise InputError(f"{shard}: must have each sample once; got {key} twice")
            rows[id], paths[id] = Row(f"{shard}, {key}", values), clip
    if not rows:
        raise InputError(f"{shards}: must hold videos or images; got none")
    labels, names = index_labels(list(rows.values()), "label")
    samples = (Sample(id, paths[id], label) for id, label in zip(rows, labels, strict=True))
    return Dataset(re.split(r"[-_.]?(?:[{.]|$)", locate(shards).name)[0] or "webdataset", names, tuple(samples))


def expand(pattern: str) -> list[str]:
    """All texts that a pattern with braces stands for, as in a shell: {000..009} and {a,b}.

    Raises:
        InputError: braces that are neither, or more than a million texts.
    """
    parts = re.split(r"\{([^{}]*)\}", pattern)
    choices = [[part] if i % 2 == 0 else _choices(pattern, part) for i, part in enumerate(parts)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > _MOST_SHARDS:
        raise InputError(f"{pattern}: must stand for at most {_MOST_SHARDS} files; got {count}")
    return ["".join(texts) for texts in itertools.product(*choices)]


def _choices(pattern: str, inside: str) -> list[str]:
    numbers = re.fullmatch(r"([0-9]{1,9})\.\.([0-9]{1,9})", inside)
    if numbers is None and "," not in inside:
        raise InputError(f"{pattern}: must have braces like {{000..009}} or {{a,b}}; got {{{inside}}}")
    if numbers is None:
        return inside.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if not 0 <= last - first < _MOST_SHARDS:
        raise InputError(f"{pattern}: must count up, to at most {_MOST_SHARDS}; got {{{inside}}}")
    return [f"{number:0{len(numbers[1])}}" for number in range(first, last + 1)]


def _samples(shard: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The key of each sample with a clip, how the clip is named, and its label, if there is one, in `values`."""
    clips: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    with (
        reading(shard, "must be a tar file in one piece, not compressed"),
        open_file(shard, _BLOCK) as file,
        tarfile.open(fileobj=file, mode="r:") as archive,
    ):
        for entry in archive:
            folder, slash, name = entry.name.rpartition("/")
            stem, dot, ending = name.partition(".")
            key, suffix = folder + slash + stem, f".{ending.rpartition('.')[2].lower()}"
            if not entry.isreg() or not stem or not dot:
                continue
            if suffix in _CLIPS:
                clips.setdefault(key, member(shard, entry.offset_data, entry.size, name))
            elif suffix in _TEXTS:
                content = archive.extractfile(entry)
                assert content is not None
                found.setdefault(key, {})[suffix] = _label(f"{shard}, {entry.name}", suffix, content.read(_LONGEST))
    for key, clip in clips.items():
        labels = (found.get(key, {}).get(suffix) for suffix in _TEXTS)
        label = next((label for label in labels if label not in (None, "")), None)
        yield key, clip, {} if label is None else {"label": label}


def _label(place: str, suffix: str, content: bytes) -> Any:
    with reading(place, "must be JSON" if suffix == ".json" else "must be text in UTF-8"):
        if suffix != ".json":
            return content.decode().strip()
        values = json.loads(content)
    if not isinstance(values, dict):
        return values
    return next((values[name] for name in ("cls", *LABELS) if name in values), None)
