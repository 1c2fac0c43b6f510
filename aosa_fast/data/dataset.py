"""What every data set is: a list of samples that are read one at a time."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from aosa_fast.boundary import reading
from aosa_fast.data.boxes import Boxes
from aosa_fast.errors import InputError, VideoError

if TYPE_CHECKING:
    from aosa_fast.models.classifier import Classifier
    from aosa_fast.models.preprocess import Preprocessing


@dataclass(frozen=True)
class Sample:
    """One clip of a data set, not yet read.

    Attributes:
        id: its name, unique in the data set.
        path: a video file or a folder of frames; None if the clip is rendered.
        label: index of its class, or None if that is not known.
        start: where the part that counts begins: a frame number from 0 (int), or seconds (float); None: at the start.
        end: where it ends, itself excluded; None: with the video. The window lies in the middle of the part, except
            that with a `start` and no `end` it begins at the start.
        boxes: where the objects of the class are, or None if that is not known.
        seed: what a rendered clip is rendered from.
        group: name of the source that it shares with other clips, such as one long video; None: not known. Statistics
            count a source once.
    """

    id: str
    path: str | None
    label: int | None
    start: int | float | None = None
    end: int | float | None = None
    boxes: Boxes | None = None
    seed: int | None = None
    group: str | None = None


@dataclass(frozen=True, eq=False)
class Part:
    """Something that a clip shows, with the clip as it would be without it: the truth about what it is worth.

    Attributes:
        name: such as "mover 0", "still 2" or "logo".
        region: (T, H, W) bool, where it is seen.
        absent: (T, H, W, 3) uint8, the clip rendered again without it.
        stopped: (T, H, W, 3) uint8, the clip with it standing still; None of what does not move.
    """

    name: str
    region: NDArray[np.bool_]
    absent: NDArray[np.uint8]
    stopped: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class Clip:
    """What a model is shown of a sample.

    Attributes:
        frames: (T, H, W, 3) uint8, RGB, resized and cropped as the model expects.
        boxes: (T, M, 4) int32, (x0, y0, x1, y1) in pixels of `frames`, half-open, (0, 0, 0, 0) where there is no
            box; None if the sample has no annotation. A frame that stands in for a damaged one has no boxes.
        indices: (T,) int64, place of each frame in the source, from 0.
        looped: how many frames, at the end, repeat the first ones, because the source is shorter than the window.
        damaged: packets that could not be decoded.
        replaced: frames for which a neighbour stands in.
        parts: makes the parts that the clip is rendered from; None of a clip that cannot be rendered without them.
        source: (height, width, frames a second, frames) of what it was cut from; None of a rendered clip.
    """

    frames: NDArray[np.uint8]
    boxes: NDArray[np.int32] | None
    indices: NDArray[np.int64]
    looped: int = 0
    damaged: int = 0
    replaced: int = 0
    parts: Callable[[], Sequence[Part]] | None = None
    source: tuple[int, int, float, int] | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A list of labelled clips; with `for_model`, also of what a model is shown of them, for a `DataLoader`.

    Attributes:
        name: what it is called in tables.
        class_names: by label; None if labels are numbers without names (the model's own), or there are none.
        samples: the clips; of a manifest, they are made when they are asked for, see `aosa_fast.data.spool`.
        missing: clips that a list names and the disk does not hold, or that have no annotation where one is needed.
        preprocessing: what the model expects whose clips `dataset[i]` reads; None: not said.
    """

    name: str
    class_names: tuple[str, ...] | None
    samples: Sequence[Sample]
    missing: int = 0
    preprocessing: Preprocessing | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read a clip, as `torch.utils.data.DataLoader` asks for it; its workers may do so, too.

        Returns:
            "frames", (T, H, W, 3) uint8, RGB; "label", index of its class, or -1 if that is not known; "id".

        Raises:
            IndexError: there are not so many.
            InputError: no model's preprocessing was named by `for_model`.
            VideoError: the file is missing or cannot be read.
        """
        sample = self.samples[index]
        if self.preprocessing is None:
            raise InputError(f"{self.name} must know the model to read clips for it: dataset.for_model(classifier)")
        label = -1 if sample.label is None else sample.label
        return {"frames": self.read(sample, self.preprocessing).frames, "label": label, "id": sample.id}

    def for_model(self, model: Classifier | Preprocessing) -> Self:
        """The same clips, to be read as a model expects them: what a `DataLoader` takes."""
        found: Any = getattr(model, "preprocessing", model)
        return replace(self, preprocessing=found)

    def read(self, sample: Sample, preprocessing: Preprocessing) -> Clip:
        """Read the window of a sample that the model sees.

        Sources shorter than the window are looped from their beginning, as the 3-D ResNet tools do. Boxes are those of
        the frames read, and go through the same resize and crop.

        Raises:
            VideoError: the file is missing or cannot be read.
        """
        if sample.path is None:
            raise InputError(f"sample {sample.id} must have a path; got None")
        with reading(sample.path, "must be a clip that the model can be shown", VideoError):
            return self._read(sample, sample.path, preprocessing)

    def _read(self, sample: Sample, path: str, preprocessing: Preprocessing) -> Clip:
        from aosa_fast.data.window import read_window  # its libraries are for those who read

        frames = preprocessing.frames
        source = read_window(
            path,
            frames,
            preprocessing.stride,
            sample.start,
            sample.end,
            # At once, so that memory does not follow the source's size.
            convert=lambda frame: preprocessing.cropped(frame[None])[0],
            fit=preprocessing.shrunk if preprocessing.decoder_scales else None,
        )
        order = np.arange(frames) % len(source.frames)
        indices = np.array(source.indices, np.int64)[order]
        boxes = None
        if sample.boxes is not None:
            boxes = preprocessing.map_boxes(sample.boxes.at(indices, *source.size), *source.size)
            boxes[np.isin(indices, source.replaced)] = 0
        return Clip(
            frames=source.frames[order],
            boxes=boxes,
            indices=indices,
            looped=frames - len(source.frames),
            damaged=source.damaged,
            replaced=len(source.replaced),
            source=(*source.size, source.fps, source.total_frames),
        )

    def select(self, per_class: int | None = None, limit: int | None = None, seed: int = 0) -> Dataset:
        """A seeded random part of the data set, of all classes in turn; see `_choose`.

        Args:
            per_class: at most so many samples of each class; None for all.
            limit: at most so many samples in all, spread evenly over the classes; None for all.
            seed: another seed, other samples.

        Raises:
            InputError: a number below 1.
        """
        check_counts(per_class, limit)
        if per_class is None and limit is None:
            return self
        return self.take(_choose(self.samples, self.class_names, per_class, limit, seed))

    def take(self, places: NDArray[np.int64]) -> Self:
        """The data set with the samples at these places only, in this order."""
        samples = self.samples
        if isinstance(samples, _Lazy):
            return replace(self, samples=samples.take(places))
        return replace(self, samples=tuple(samples[place] for place in places.tolist()))

    def count_labels(self) -> Counter[int]:
        """How many samples each label has that occurs."""
        if isinstance(self.samples, _Lazy):
            return self.samples.count_labels()
        return Counter(sample.label for sample in self.samples if sample.label is not None)


@runtime_checkable
class _Lazy(Protocol):
    """Samples that are not all in memory, and must not be asked for one by one where that is not needed."""

    def take(self, places: NDArray[np.int64]) -> Sequence[Sample]: ...

    def count_labels(self) -> Counter[int]: ...


def _choose(
    samples: Iterable[Sample], class_names: Sequence[str] | None, per_class: int | None, limit: int | None, seed: int
) -> NDArray[np.int64]:
    """Take samples of all classes in turn, and return their places.

    Each sample draws a number from the seed and its own id, and each class one from the seed and its name. The
    smallest of each class come first, then the second smallest, and so on: what is taken of one class does not depend
    on the others, nor on the order of files, and a smaller choice is the beginning of a larger one.

    Samples without a label count as one class.
    """
    names: dict[str, int] = {}
    kinds, draws = array("i"), array("Q")  # 12 bytes a sample: there may be many
    for sample in samples:
        name = class_names[sample.label] if class_names and sample.label is not None else str(sample.label)
        kinds.append(names.setdefault(name, len(names)))
        draws.append(int.from_bytes(_draw(seed, "sample", sample.id)[:8], "big"))
    if not names:
        return np.zeros(0, np.int64)
    kind = np.frombuffer(kinds, np.int32)
    by_draw = np.lexsort((np.frombuffer(draws, np.uint64), kind))
    kind = kind[by_draw]
    begins = np.searchsorted(kind, np.arange(len(names))).astype(np.int32)
    rank = np.arange(len(kind), dtype=np.int32) - begins[kind]
    turn = np.argsort(np.argsort([_draw(seed, "class", name).hex() for name in names])).astype(np.int32)
    order = np.lexsort((turn[kind], rank))
    return by_draw[order[rank[order] < per_class] if per_class is not None else order][:limit]


def check_counts(per_class: int | None, limit: int | None) -> None:
    """Refuse numbers of samples below 1."""
    for name, value in (("per_class", per_class), ("limit", limit)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1; got {value}")


def _draw(seed: int, kind: str, name: str) -> bytes:
    # A hash, not a generator: no draw depends on how many were made before it.
    return hashlib.blake2b(f"{seed}\0{kind}\0{name}".encode("utf-8", "surrogateescape"), digest_size=16).digest()
