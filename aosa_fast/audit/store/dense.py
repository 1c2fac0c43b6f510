"""Whole maps in a zarr store beside the rows, for those who want every voxel: 8 bits each, read by zarr and xarray.

A shard of an audit writes DIR/dense/<i>of<n>.zarr (zarr v3): a group of the arrays

- values: (M, T, H, W) uint8, a chunk per clip, many clips per file (a zarr shard), compressed by Blosc with zstd;
- scale, offset: (M,) float32: a voxel is offset + scale * value, in units of the score, to within half a scale;
- id: (M,) text, whose map it is;

and its attribute `clips`, how many of them count. A row's `dense_index` is its place along M.

Maps are written when a file is full, or when `flush` is called: each file under another name first, then on the disk,
then renamed; `clips` last of all. Rows whose maps are still pending must not be committed: then no row ever points to a
map that is not there. A run that is killed leaves maps that no row points to, at most as many as one flush writes, and
hidden files that end in .tmp: the next run of the shard removes these, and overwrites what lies behind `clips`.
"""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from aosa_fast.audit.store.compact import check_voxels
from aosa_fast.audit.store.run_folder import shard_name
from aosa_fast.boundary import reading
from aosa_fast.errors import InputError
from aosa_fast.files import disk_error, make_folder, sync_folder, write_file
from aosa_fast.libraries import check_libraries

if TYPE_CHECKING:
    from zarr.core.buffer import Buffer

STORE_VERSION = 1
PER_FILE = 100  # files of `values` that one of the other arrays' files goes with: theirs are small
_TEMPORARY = ".tmp"
_RULE = "must be a store of maps that this package wrote"


@dataclass(frozen=True, eq=False)
class Quantised:
    """A map of 8 bits a voxel: offset + scale * value, in units of the score."""

    values: NDArray[np.uint8]  # (T, H, W)
    scale: float
    offset: float


def quantise(saliency: NDArray[np.float32]) -> Quantised:
    """A map (T, H, W) float32 in 8 bits, each voxel to within half a scale; 0 stays 0 where the map has both signs."""
    low, high = float(saliency.min()), float(saliency.max())
    through_zero = low <= 0 <= high
    # A step less through 0, as both ends are rounded towards the grid on which 0 lies. Rounded up: both ends must fit.
    scale = np.nextafter(np.float32((high - low) / (254 if through_zero else 255)), np.float32(np.inf))
    if high == low:
        scale = np.float32(0)
    offset = np.float32(low)
    if through_zero:
        offset = -np.float32(np.rint(-low / float(scale)) if scale else 0) * scale
    steps = (saliency.astype(np.float64) - float(offset)) / (float(scale) or 1.0)
    return Quantised(np.clip(np.rint(steps), 0, 255).astype(np.uint8), float(scale), float(offset))


def restore(values: NDArray[np.uint8], scale: float, offset: float) -> NDArray[np.float32]:
    """The map that was quantised, float32."""
    return values.astype(np.float32) * np.float32(scale) + np.float32(offset)


def dense_path(folder: Path, shard: tuple[int, int]) -> Path:
    """Where shard i of n of the run in `folder` has its maps."""
    return folder / "dense" / f"{shard_name(shard)}.zarr"


class DenseWriter:
    """Adds maps to a shard's store, where an earlier run of it stopped; one at a time, as the run's lock sees to."""

    def __init__(
        self, folder: Path, shard: tuple[int, int], shape: tuple[int, int, int], *, shard_clips: int = 100
    ) -> None:
        """Opens the store, or makes it.

        Args:
            folder: of the run.
            shard: (i, n), the part i of 1..n.
            shape: (T, H, W) of every map.
            shard_clips: maps in a file.

        Raises:
            InputError: zarr is missing, the folder cannot be written, or it holds maps of another shape.
        """
        self.path = dense_path(folder, shard)
        self._shape = shape
        self._pending: list[tuple[str, Quantised]] = []
        zarr = _zarr()
        with reading(self.path, _RULE):
            try:
                make_folder(folder, *self.path.relative_to(folder).parts)
                for leftover in self.path.rglob(f".*{_TEMPORARY}"):
                    leftover.unlink()
                self._group: Any = zarr.open_group(_durable(self.path), mode="a")
                if "clips" not in self._group.attrs:
                    _fill(self._group, shape, shard_clips)
            except OSError as error:
                raise disk_error(self.path, error) from None
            values = self._group["values"]
            if tuple(values.shape[1:]) != tuple(shape):
                raise InputError(f"{self.path}: must hold maps of {shape}; it holds {tuple(values.shape[1:])}")
            self._per_file = int(values.shards[0])
            self._written = int(self._group.attrs["clips"])

    @property
    def pending(self) -> int:
        """How many maps are not on the disk yet; the rows of the last so many must not be committed."""
        return len(self._pending)

    def append(self, clip_id: str, saliency: NDArray[np.float32] | Quantised) -> int:
        """Takes a clip's map and returns its `dense_index`; writes all that are pending once they fill a file.

        Raises:
            InputError: a map of another shape; or as `flush`.
        """
        map_ = saliency if isinstance(saliency, Quantised) else quantise(saliency)
        if map_.values.shape != tuple(self._shape):
            raise InputError(f"{clip_id}: must have a map of {tuple(self._shape)}; got {map_.values.shape}")
        index = self._written + len(self._pending)
        self._pending.append((clip_id, map_))
        if (index + 1) % self._per_file == 0:
            self.flush()
        return index

    def flush(self) -> None:
        """Writes what is pending; it is on the disk when this returns.

        Raises:
            InputError: the disk is full, or the folder can no longer be written. What was pending still is.
        """
        if not self._pending:
            return
        begin, end = self._written, self._written + len(self._pending)
        ids, maps = zip(*self._pending, strict=True)
        columns: dict[str, NDArray[Any]] = {
            "values": np.stack([map_.values for map_ in maps]),
            "scale": np.array([map_.scale for map_ in maps], np.float32),
            "offset": np.array([map_.offset for map_ in maps], np.float32),
            "id": np.array(
                [i.encode("utf-8", "backslashreplace").decode() for i in ids], dtype=np.dtypes.StringDType()
            ),
        }
        try:
            for name, column in columns.items():
                array = self._group[name]
                array.resize((end, *array.shape[1:]))
                array[begin:end] = column
            self._group.attrs["clips"] = end
        except OSError as error:
            raise disk_error(self.path, error) from None
        self._written = end
        self._pending.clear()

    def __enter__(self) -> DenseWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self.flush()


def read_dense(folder: Path, shard: tuple[int, int], index: int) -> NDArray[np.float32]:
    """The map of a row's `dense_index`: (T, H, W) float32, each voxel to within half of the clip's scale.

    Raises:
        InputError: zarr is missing, there is no such store, or no such map in it.
    """
    zarr = _zarr()
    path = dense_path(folder, shard)
    with reading(path, _RULE, named=False):
        group: Any = zarr.open_group(path, mode="r")
        count = int(group.attrs["clips"])
        check_voxels(group["values"].shape[1:])
        if not 0 <= index < count:
            raise InputError(f"dense_index must be from 0 to {count - 1}; got {index}")
        return restore(group["values"][index], float(group["scale"][index]), float(group["offset"][index]))


def _fill(group: Any, shape: tuple[int, int, int], shard_clips: int) -> None:
    """Makes the arrays, in place of what a run that was killed while doing so has left."""
    zarr = _zarr()
    codec = zarr.codecs.BloscCodec(cname="zstd", clevel=5, shuffle="noshuffle", typesize=1)
    flat = {"name": "default", "separator": "."}  # else each file has three folders to itself
    common: dict[str, Any] = {"chunk_key_encoding": flat, "overwrite": True}
    group.create_array(
        "values",
        shape=(0, *shape),
        chunks=(1, *shape),
        shards=(shard_clips, *shape),
        dtype="uint8",
        compressors=codec,
        dimension_names=("clip", "t", "y", "x"),
        **common,
    )
    common |= {"shape": (0,), "chunks": (shard_clips * PER_FILE,), "dimension_names": ("clip",)}
    for name in ("scale", "offset"):
        group.create_array(name, dtype="float32", **common)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr 3.0 warns that version 3 of the format did not have texts yet
        group.create_array("id", dtype=str, **common)
    group.attrs.update({"aosa_fast_audit": STORE_VERSION, "clips": 0})


def _durable(path: Path) -> Any:
    """A zarr store in a folder, each of whose files is either as it was or whole and on the disk."""
    from zarr.storage import LocalStore, WrapperStore

    class DurableStore(WrapperStore[LocalStore]):
        async def set(self, key: str, value: Buffer) -> None:
            make_folder(path, *key.split("/")[:-1])
            await asyncio.to_thread(_write, path / key, value.to_bytes())

    return DurableStore(LocalStore(path))


def _write(path: Path, content: bytes) -> None:
    write_file(path, content, path.with_name(f".{path.name}{_TEMPORARY}"))
    sync_folder(path.parent)


def _zarr() -> Any:
    check_libraries("zarr", extra="dense")
    import zarr.codecs

    return zarr
