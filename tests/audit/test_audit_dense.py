from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aosa_fast.audit.store import dense as module
from aosa_fast.audit.store.dense import DenseWriter, dense_path, quantise, read_dense, restore
from aosa_fast.errors import InputError
from audit_disk import files

zarr = pytest.importorskip("zarr")

SHAPE = (3, 6, 7)
SHARD = (2, 3)


def a_map(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(rng.normal(), 1, shape) * 10.0 ** rng.uniform(-9, 4)).astype(np.float32)


def write(folder: Path, numbers: range, *, shard_clips: int = 4, close: bool = True) -> dict[int, int]:
    """Writes maps by number; their indices."""
    writer = DenseWriter(folder, SHARD, SHAPE, shard_clips=shard_clips)
    indices = {number: writer.append(f"clip {number}", a_map(number)) for number in numbers}
    if close:
        writer.flush()
    return indices


def check(folder: Path, indices: dict[int, int]) -> None:
    """Every index gives its own map, and its name is beside."""
    ids = zarr.open_group(dense_path(folder, SHARD), mode="r")["id"][:]
    for number, index in indices.items():
        wanted = a_map(number)
        got = read_dense(folder, SHARD, index)
        assert np.abs(got.astype(np.float64) - wanted).max() <= np.ptp(wanted) / 254 / 2 * 1.0001, number
        assert ids[index] == f"clip {number}"


def check_counted(folder: Path, at_least: dict[int, int]) -> None:
    """Every map that the store counts is whole, and has its name; those of `at_least` are among them."""
    store = dense_path(folder, SHARD)
    if not at_least and "clips" not in ((store / "zarr.json").read_text() if (store / "zarr.json").exists() else ""):
        return  # it was not yet made
    group = zarr.open_group(store, mode="r")
    counted = {int(name.split()[1]): i for i, name in enumerate(group["id"][: group.attrs["clips"]])}
    assert len(counted) == group.attrs["clips"]
    assert counted.items() >= at_least.items()
    if counted:
        check(folder, counted)


def test_quantised_maps_are_within_half_a_step() -> None:
    for seed in range(200):
        values = a_map(seed, (4, 9, 9))
        values = [values, np.abs(values), -np.abs(values), values + 5 * np.abs(values).max()][seed % 4]
        found = quantise(values)
        got = restore(found.values, found.scale, found.offset)
        assert got.dtype == np.float32
        rounding = 2.0**-23 * np.abs(values).max()
        assert np.abs(got.astype(np.float64) - values).max() <= found.scale / 2 + rounding
        assert found.scale <= np.ptp(values.astype(np.float64)) / 254 * 1.0001
        assert found.values.dtype == np.uint8


def test_quantised_maps_keep_their_zeros() -> None:
    for seed in range(200):
        values = a_map(seed, (4, 9, 9))
        values -= values.mean(dtype=np.float64).astype(np.float32)
        values[1:3, 2:5] = 0
        found = quantise(values)
        assert not restore(found.values, found.scale, found.offset)[1:3, 2:5].any()
        positive = np.abs(values)
        positive[0] = 0
        found = quantise(positive)
        assert not restore(found.values, found.scale, found.offset)[0].any()


@pytest.mark.parametrize("value", [0.0, 1.5, -3e-9, 1e-45])
def test_a_constant_map_is_kept_as_it_is(value: float) -> None:
    values = np.full(SHAPE, value, np.float32)
    found = quantise(values)
    assert np.array_equal(restore(found.values, found.scale, found.offset), values)


def test_hand_worked_steps() -> None:
    found = quantise(np.array([[[-54.0, 0.0, 0.4, 0.6, 200.0]]], np.float32))  # 254 between the ends: a step is 1
    assert found.scale == pytest.approx(1, rel=1e-6)
    assert found.offset == pytest.approx(-54, rel=1e-6)
    assert found.values.tolist() == [[[0, 54, 54, 55, 254]]]
    found = quantise(np.array([[[10.0, 137.4, 265.0]]], np.float32))  # 255, and no 0 to be met
    assert (found.values.tolist(), found.offset) == ([[[0, 127, 255]]], 10)


def test_maps_come_back_by_their_index(tmp_path: Path) -> None:
    indices = write(tmp_path, range(11))
    assert indices == {number: number for number in range(11)}
    check(tmp_path, indices)
    assert read_dense(tmp_path, SHARD, 3).dtype == np.float32
    assert quantise(a_map(3)).values.tobytes() == zarr.open_group(dense_path(tmp_path, SHARD))["values"][3].tobytes()


def test_many_clips_share_a_file(tmp_path: Path) -> None:
    write(tmp_path, range(11))
    assert files(dense_path(tmp_path, SHARD)) == [
        *("id/c.0", "id/zarr.json", "offset/c.0", "offset/zarr.json", "scale/c.0", "scale/zarr.json"),
        *("values/c.0.0.0.0", "values/c.1.0.0.0", "values/c.2.0.0.0", "values/zarr.json", "zarr.json"),
    ]
    array = zarr.open_group(dense_path(tmp_path, SHARD), mode="r")["values"]
    assert (array.metadata.zarr_format, array.dtype, array.chunks, array.shards) == (
        3, np.uint8, (1, *SHAPE), (4, *SHAPE),
    )  # fmt: skip
    (codec,) = array.compressors
    assert (codec.cname.value, array.metadata.dimension_names) == ("zstd", ("clip", "t", "y", "x"))


def test_maps_are_pending_until_a_file_is_full_or_they_are_flushed(tmp_path: Path) -> None:
    writer = DenseWriter(tmp_path, SHARD, SHAPE, shard_clips=4)
    pending = []
    for number in range(6):
        writer.append(f"clip {number}", a_map(number))
        pending.append(writer.pending)
    assert pending == [1, 2, 3, 0, 1, 2]
    check(tmp_path, {number: number for number in range(4)})
    with pytest.raises(InputError, match=r"dense_index must be from 0 to 3; got 4"):
        read_dense(tmp_path, SHARD, 4)
    writer.flush()
    assert writer.pending == 0
    check(tmp_path, {number: number for number in range(6)})
    assert [writer.append(f"clip {number}", a_map(number)) for number in (6, 7)] == [6, 7]
    assert writer.pending == 0  # the file is full
    check(tmp_path, {number: number for number in range(8)})
    before = files(dense_path(tmp_path, SHARD))
    writer.flush()
    assert files(dense_path(tmp_path, SHARD)) == before


def test_a_later_run_goes_on(tmp_path: Path) -> None:
    indices = write(tmp_path, range(6))
    indices |= write(tmp_path, range(6, 7), shard_clips=9)  # the store keeps its own
    indices |= write(tmp_path, range(7, 15))
    assert list(indices.values()) == list(range(15))
    check(tmp_path, indices)
    assert zarr.open_group(dense_path(tmp_path, SHARD))["values"].shards[0] == 4


def test_what_was_not_flushed_is_not_there(tmp_path: Path) -> None:
    indices = write(tmp_path, range(6), close=False)
    check(tmp_path, {number: indices[number] for number in range(4)})
    again = write(tmp_path, range(20, 23))
    assert list(again.values()) == [4, 5, 6]
    check(tmp_path, {0: 0, 3: 3, **again})


def test_a_run_that_dies_at_any_write_leaves_a_store_that_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    real, writes = module._write, 0

    def dies(at: int) -> None:
        def writing(path: Path, content: bytes) -> None:
            nonlocal writes
            writes += 1
            if writes == at + 1:
                path.parent.mkdir(parents=True, exist_ok=True)
                (path.parent / f".{path.name}.tmp").write_bytes(content[: len(content) // 2])
            if writes > at:
                raise Killed
            real(path, content)

        monkeypatch.setattr(module, "_write", writing)

    def run(folder: Path, committed: dict[int, int]) -> None:
        writer = DenseWriter(folder, SHARD, SHAPE, shard_clips=4)
        for number in (10, 11):
            index = writer.append(f"clip {number}", a_map(number))
            if number == 11:
                writer.flush()  # where three maps were before, the first of these fills a file
            if writer.pending == 0:
                committed |= {n: index - number + n for n in range(10, number + 1) if n not in committed}

    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no machine is switched off here
    for begun in (0, 3):
        dies(10_000)
        folder = tmp_path / f"begun {begun}"
        folder.mkdir()
        if begun:
            write(folder, range(begun))
        earlier = shutil.copytree(folder, tmp_path / f"earlier {begun}")
        writes = 0
        run(folder, {})
        total = writes
        assert total >= 15
        for at in range(total):
            folder = shutil.copytree(earlier, tmp_path / f"{begun} {at}")
            dies(at)
            writes = 0
            committed = {number: number for number in range(begun)}
            with suppress(Killed):
                run(folder, committed)
            assert writes == at + 1
            dies(10_000)
            check_counted(folder, at_least=committed)
            committed |= write(folder, range(30, 32))
            check(folder, committed)
            assert len(set(committed.values())) == len(committed)
            assert not list(folder.rglob("*.tmp"))


WRITER = """
import sys
from pathlib import Path
import numpy as np
from aosa_fast.audit.store.dense import DenseWriter
writer = DenseWriter(Path(sys.argv[1]), (2, 3), (3, 6, 7), shard_clips=4)
first = int(sys.argv[2])
waiting = []
for number in range(first, first + 100000):
    rng = np.random.default_rng(number)
    made = (rng.normal(rng.normal(), 1, (3, 6, 7)) * 10.0 ** rng.uniform(-9, 4)).astype(np.float32)
    waiting.append((number, writer.append(f"clip {number}", made)))
    if number % 7 == 0:
        writer.flush()
    if not writer.pending:
        for pair in waiting:
            print(*pair, flush=True)
        waiting = []
"""


def test_a_run_that_is_killed_again_and_again_loses_no_map_that_a_row_points_to(tmp_path: Path) -> None:
    rng = np.random.default_rng()
    rows: dict[int, int] = {}
    for attempt in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(attempt * 100_000)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(rng.uniform(0, 0.2))
        child.send_signal(signal.SIGKILL)
        lines += child.stdout.read().splitlines()
        child.stdout.close()
        assert child.wait(60) == -signal.SIGKILL
        whole = [line.split() for line in lines if len(line.split()) == 2]
        rows |= {int(number): int(index) for number, index in whole[:-1]}  # the last line may be cut
        check(tmp_path, rows)
    assert len(rows) > 4
    assert len(set(rows.values())) == len(rows)


def test_a_full_disk_is_one_line_and_the_maps_stay_pending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = DenseWriter(tmp_path, SHARD, SHAPE, shard_clips=4)
    writer.append("clip 0", a_map(0))
    real, left = module._write, 2

    def full(path: Path, content: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(path, content)

    monkeypatch.setattr(module, "_write", full)
    with pytest.raises(InputError, match=r"2of3\.zarr: must have room on the disk; No space left on device$"):
        writer.flush()
    assert writer.pending == 1
    monkeypatch.setattr(module, "_write", real)
    writer.flush()
    check(tmp_path, {0: 0})


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "dense").write_text("a file")
    with pytest.raises(InputError, match=r"2of3\.zarr: must be a folder that can be written"):
        DenseWriter(tmp_path, SHARD, SHAPE)


def test_maps_of_another_shape_are_refused(tmp_path: Path) -> None:
    write(tmp_path, range(2))
    with pytest.raises(InputError, match=r"must hold maps of \(3, 6, 8\); it holds \(3, 6, 7\)"):
        DenseWriter(tmp_path, SHARD, (3, 6, 8))
    writer = DenseWriter(tmp_path, SHARD, SHAPE)
    with pytest.raises(InputError, match=r"^odd: must have a map of \(3, 6, 7\); got \(3, 6, 8\)"):
        writer.append("odd", np.zeros((3, 6, 8), np.float32))
    assert writer.pending == 0


@pytest.mark.parametrize("index", [-1, 2])
def test_a_map_that_is_not_there_is_named(tmp_path: Path, index: int) -> None:
    write(tmp_path, range(2))
    with pytest.raises(InputError, match=rf"2of3\.zarr: dense_index must be from 0 to 1; got {index}"):
        read_dense(tmp_path, SHARD, index)


def test_a_store_that_is_missing_or_broken_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2of3\.zarr: must be a store of maps") as error:
        read_dense(tmp_path, SHARD, 0)
    assert "\n" not in str(error.value)
    write(tmp_path, range(4))
    chunk = dense_path(tmp_path, SHARD) / "values" / "c.0.0.0.0"
    content = bytearray(chunk.read_bytes())
    content[-20:] = b"\xff" * 20
    chunk.write_bytes(content)
    with pytest.raises(InputError, match=r"2of3\.zarr: must be a store of maps"):
        read_dense(tmp_path, SHARD, 1)
    (dense_path(tmp_path, SHARD) / "zarr.json").write_text("{")
    for act in (lambda: read_dense(tmp_path, SHARD, 0), lambda: DenseWriter(tmp_path, SHARD, SHAPE)):
        with pytest.raises(InputError, match=r"2of3\.zarr: must be a store of maps"):
            act()


def test_without_zarr_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zarr", None)
    acts: list[Any] = [lambda: DenseWriter(tmp_path, SHARD, SHAPE), lambda: read_dense(tmp_path, SHARD, 0)]
    for act in acts:
        with pytest.raises(
            InputError, match=r"^dense must have zarr; it is missing: pip install .aosa-fast\[dense\].$"
        ):
            act()


def test_names_of_any_bytes_are_kept(tmp_path: Path) -> None:
    with DenseWriter(tmp_path, SHARD, SHAPE) as writer:
        writer.append("päth/\udcff\n'<b>", quantise(a_map(0)))
    assert zarr.open_group(dense_path(tmp_path, SHARD), mode="r")["id"][0] == "päth/\\udcff\n'<b>"


def test_shards_do_not_meet(tmp_path: Path) -> None:
    for number in (1, 2):
        with DenseWriter(tmp_path, (number, 2), SHAPE) as writer:
            assert writer.append(f"clip {number}", a_map(number)) == 0
    assert not np.allclose(read_dense(tmp_path, (1, 2), 0), read_dense(tmp_path, (2, 2), 0))
