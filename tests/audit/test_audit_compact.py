from __future__ import annotations

import struct
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import aosa_fast
from aosa_fast.audit.store.compact import load_map, pack_map, row_tubes
from aosa_fast.audit.store.schema import SCHEMA
from aosa_fast.config import Config
from aosa_fast.data import open_dataset
from aosa_fast.errors import InputError
from aosa_fast.inference.timing import Timings
from aosa_fast.methods.flow import optical_flow
from aosa_fast.methods.tubes import make_tubes
from aosa_fast.models import Preprocessing
from evaluation_cases import classifier, memory

HEIGHT, WIDTH = 8, 10


def by_hand(config: Config | None = None, **more: Any) -> dict[str, Any]:
    """Two anchors over three frames, positions that round half to even; the second leaves after the first frame."""
    tracks = np.array([[[2.5, 3.5], [3.4, 4.5], [1.2, 5.0]], [[9.0, 0.5], [9.0, 0.5], [9.0, 0.5]]], np.float32)
    alive = np.array([[True, True, True], [True, False, False]])
    members = np.array([[0, 1], [1, -1]], np.int32)
    scores = np.array([0.5, -0.25], np.float32)
    packed = pack_map(tracks, alive, members, scores, config or Config(box=(2, 3)), HEIGHT, WIDTH, **more)
    return {"id": "by hand", "status": "ok", "label": 1, "target": 0, "score": 0.75, **packed}


def drawn_by_hand() -> np.ndarray:
    """The sum over the two tubes, over their number: boxes 2 pixels high and 3 wide, from (y-1, x-1)."""
    first, second = np.zeros((3, HEIGHT, WIDTH)), np.zeros((3, HEIGHT, WIDTH))
    first[0, 3:5, 1:4] = 1  # (x, y) = (2, 4)
    first[1, 3:5, 2:5] = 1  # (3, 4)
    first[2, 4:6, 0:3] = 1  # (1, 5)
    second[0, 0:1, 8:10] = 1  # (9, 0), cut off by the frame
    joined = np.maximum(first, second)
    return (0.5 * joined - 0.25 * second) / 2


def test_the_columns_are_the_bytes_that_are_documented() -> None:
    row = by_hand()
    assert row["map_shape"] == [2, 3, 2, 8, 10, 2, 3]
    xy = [(2, 9), (4, 0), (1, 0), (0, 0), (-2, 0), (1, 0)]  # per frame, x of both, then y of both
    assert row["map_tracks"] == struct.pack("<12h", *(value for pair in xy for value in pair))
    assert row["map_alive"] == bytes([0b11110000])
    assert row["map_members"] == struct.pack("<4h", 0, 1, 1, -1)
    assert row["map_scores"] == struct.pack("<2f", 0.5, -0.25)
    assert row["map_scores_label"] is None
    assert row["map_aggregate"] == "sum"


def test_a_map_is_drawn_from_them_as_by_hand() -> None:
    assert np.array_equal(load_map(by_hand()), drawn_by_hand().astype(np.float32))
    assert load_map(by_hand()).dtype == np.float32


def test_eq2_weighs_with_the_clips_own_score() -> None:
    # Sum over the tubes that do not cover a voxel of f - S_i, over N.
    row = by_hand(Config(box=(2, 3), aggregate="eq2"))
    outside = (0.25 + 1.0) / 2
    got = load_map(row)
    assert got[0, 7, 5] == pytest.approx(outside)
    assert got[0, 3, 2] == pytest.approx(1.0 / 2)  # only the second tube does not cover it
    assert got[0, 0, 9] == pytest.approx(0)  # both do
    without = {name: value for name, value in row.items() if name != "score"}
    with pytest.raises(InputError, match="by hand: must have the column score for this map"):
        load_map(without)


def test_the_labels_map_is_beside() -> None:
    label = (np.array([-1.0, 2.0], np.float32), 0.5)
    row = by_hand(label=label)
    assert row["map_scores_label"] == struct.pack("<2f", -1.0, 2.0)
    assert load_map(row, "label")[0, 3, 2] == -0.5
    assert load_map(row, "label")[0, 0, 9] == 0.5
    assert np.array_equal(load_map(row), drawn_by_hand().astype(np.float32))
    of_eq2 = by_hand(Config(box=(2, 3), aggregate="eq2"), label=label)
    assert of_eq2["map_scores_label"] == struct.pack("<3f", -1.0, 2.0, 0.5)
    assert load_map(of_eq2, "label")[0, 7, 5] == pytest.approx((1.5 - 1.5) / 2)
    assert load_map(of_eq2, "label")[0, 3, 2] == pytest.approx(-1.5 / 2)


def test_where_the_label_is_explained_its_map_is_the_one_there_is() -> None:
    row = {**by_hand(), "label": 0}
    assert np.array_equal(load_map(row, "label"), load_map(row))
    for label in (1, None, float("nan")):
        with pytest.raises(InputError, match=r"^by hand: must have a map of its label, as rows of target=both do"):
            load_map({**by_hand(), "label": label, "target": label if label is None else 0}, "label")


def test_tubes_of_a_row() -> None:
    tubes = row_tubes(by_hand())
    assert tubes.tracks.tolist() == [[[2, 4], [3, 4], [1, 5]], [[9, 0]] * 3]
    assert tubes.alive.tolist() == [[True, True, True], [True, False, False]]
    assert tubes.boxes.tolist() == [
        [[1, 3, 4, 5], [2, 3, 5, 5], [0, 4, 3, 6]],
        [[8, 0, 10, 1], [0, 0, 0, 0], [0, 0, 0, 0]],
    ]
    assert tubes.members.tolist() == [[0, 1], [1, -1]]
    assert tubes.scores.tolist() == [0.5, -0.25]
    assert tubes.shape == (3, HEIGHT, WIDTH)
    assert [part.dtype for part in (tubes.tracks, tubes.boxes, tubes.members, tubes.scores)] == [
        np.int32, np.int32, np.int32, np.float32,
    ]  # fmt: skip


@pytest.mark.parametrize("method", ["aosa-approx", "aosa-path", "aosa"])
@pytest.mark.parametrize("aggregate", ["sum", "mean", "eq2"])
def test_maps_are_drawn_again_bit_for_bit(method: str, aggregate: str) -> None:
    model, clips = classifier(), memory(3)
    pictures = torch.from_numpy(np.stack([clips.read(s, model.preprocessing).frames for s in clips.samples]))
    # So strong that many anchors leave.
    flow = torch.from_numpy(np.random.default_rng(1).normal(0, 2.5, (3, 5, 20, 20, 2)).astype(np.float32))
    left = 0
    common: dict[str, Any] = {"method": method, "aggregate": aggregate, "stride": 7, "steps": 2, "batch_size": 2}
    cases = [(reseed, box, k) for reseed, box, k in product((0, 2), (5, (4, 7), (1, 1)), range(6)) if (k + reseed) % 2]
    for reseed, box, partners in cases:
        config = Config(reseed=reseed, box=box, partners=partners, **common)
        found = aosa_fast.explain(model, pictures, config=config, flow=flow)
        for b in range(3):
            row = pack_map(
                *(part[b].numpy() for part in (found.tracks, found.alive, found.members, found.scores)), config, 20, 20
            )
            row |= {"id": str(b), "score": float(found.clean_scores[b, found.target.index[b]])}
            assert torch.equal(torch.from_numpy(load_map(row)), found.saliency[b]), (config, b)
            tubes = row_tubes(row)
            assert np.array_equal(tubes.boxes, found.boxes[b].numpy())
            assert np.array_equal(tubes.alive, found.alive[b].numpy())
            assert np.array_equal(tubes.members, found.members[b].numpy())
            gone = ~tubes.alive[:, 1:] & ~tubes.alive[:, :-1]
            assert not np.diff(tubes.tracks, axis=1)[gone].any()  # at rest
            left += int(tubes.alive[:, 0].sum() - tubes.alive[:, -1].sum()) if not reseed else 0
    assert left > 20


def test_more_tubes_than_16_bits_can_number() -> None:
    count = 33_000
    positions = np.stack([np.arange(count) % 200, np.arange(count) // 200], -1)[:, None].astype(np.float32)
    members = np.stack([np.arange(count), np.arange(count)[::-1]], -1).astype(np.int32)
    scores = np.arange(count, dtype=np.float32)
    packed = pack_map(positions, np.ones((count, 1), bool), members, scores, Config(box=1), 165, 200)
    assert len(packed["map_members"]) == count * 2 * 4
    assert np.array_equal(row_tubes({"id": "many", **packed}).members, members)
    # The tube of voxel i holds its own pixel and that of count - 1 - i: each gets (i + count - 1 - i) / count.
    np.testing.assert_allclose(load_map({"id": "many", **packed}).ravel(), (count - 1) / count, rtol=1e-6)


def parquet_rows(folder: Path, rows: list[dict[str, Any]]) -> Path:
    # Smallest and largest values are written beside, which only many rows make up for.
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    pq.write_table(table, folder / "part.parquet", compression="zstd", use_dictionary=False, write_statistics=False)
    return folder / "part.parquet"


def rows_of(library: str, path: Path) -> list[Any]:
    """The rows of a Parquet file, as somebody would take them with this library."""
    table = pq.read_table(path)
    if library == "pyarrow":
        return table.to_pylist()
    if library == "pyarrow scalars":
        return list(table.to_struct_array())
    if library == "polars":
        return pytest.importorskip("polars").read_parquet(path).rows(named=True)
    if library == "duckdb":
        found = pytest.importorskip("duckdb").sql(f"select * from '{path}'")
        return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]
    pandas = pytest.importorskip("pandas")
    if library == "pandas records":
        return pandas.read_parquet(path).to_dict("records")
    frame = pandas.read_parquet(path, **({"dtype_backend": "pyarrow"} if library == "pandas on pyarrow" else {}))
    return [frame.iloc[i] for i in range(len(frame))]


LIBRARIES = ["pyarrow", "pyarrow scalars", "pandas", "pandas records", "pandas on pyarrow", "polars", "duckdb"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_rows_of_any_library_will_do(tmp_path: Path, library: str) -> None:
    label = (np.array([-1.0, 2.0], np.float32), 0.5)
    path = parquet_rows(tmp_path, [by_hand(label=label), by_hand(), {"id": "broken", "status": "error"}])
    with_label, without, broken = rows_of(library, path)
    assert np.array_equal(load_map(with_label), drawn_by_hand().astype(np.float32))
    assert load_map(with_label, "label")[0, 3, 2] == -0.5
    with pytest.raises(InputError, match=r"^by hand: must have a map of its label"):
        load_map(without, "label")
    for act in (load_map, row_tubes):
        with pytest.raises(InputError, match=r"^broken: must have a map, .* its status is error$"):
            act(broken)


def test_only_some_columns_are_needed() -> None:
    row = {name: value for name, value in by_hand().items() if name.startswith("map_")}
    assert np.array_equal(load_map(row), drawn_by_hand().astype(np.float32))


def test_a_missing_value_may_be_no_number_as_pandas_has_it_after_a_merge() -> None:
    with pytest.raises(InputError, match=r"^by hand: must have a map, .* its status is None$"):
        load_map({**by_hand(), "map_shape": float("nan"), "status": float("nan")})
    with pytest.raises(InputError, match=r"^by hand: must have a map of its label"):
        load_map({**by_hand(), "map_scores_label": float("nan")}, "label")


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("map_tracks", b"\0" * 23, "map_tracks must be 24 bytes; got 23 bytes"),
        ("map_tracks", None, "map_tracks must be 24 bytes; got NoneType"),
        ("map_tracks", struct.pack("<12h", 10, *[0] * 11), "map_tracks must be inside of map_shape"),
        ("map_tracks", struct.pack("<12h", 5, 0, 0, 0, -6, *[0] * 7), "map_tracks must be inside of map_shape"),
        ("map_tracks", struct.pack("<12h", 0, 0, 8, *[0] * 9), "map_tracks must be inside of map_shape"),
        ("map_alive", b"", "map_alive must be 1 bytes; got 0 bytes"),
        ("map_members", struct.pack("<4h", 0, 1, 2, -1), "map_members must be from -1 to 1; some are not"),
        ("map_members", struct.pack("<4h", 0, 1, 1, -2), "map_members must be from -1 to 1; some are not"),
        ("map_members", "text", "map_members must be 8 bytes; got str"),
        ("map_scores", b"\0" * 12, "map_scores must be 8 bytes; got 12 bytes"),
        ("map_shape", [2, 3, 2, 8, 10, 2], r"map_shape must be 7 sizes; got \[2, 3, 2, 8, 10, 2\]"),
        ("map_shape", [2, 3, 2, 8, 10, 0, 3], "map_shape must be 7 sizes"),
        ("map_shape", [2**40, 2**40, 2, 8, 10, 2, 3], "map_shape must be 7 sizes"),
        ("map_shape", "abcdefg", "must have a map in one piece; got invalid literal"),
        ("map_shape", [10**9, 3, 2, 8, 10, 2, 3], "map_tracks must be 12000000000 bytes; got 24 bytes"),
        ("map_aggregate", "eq3", "map_aggregate must be one of sum, mean, eq2; got eq3"),
    ],
)
def test_a_damaged_row_is_named(column: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"^by hand: {message}") as error:
        load_map({**by_hand(), column: value})
    assert "\n" not in str(error.value)


def test_scores_of_the_label_that_are_damaged_are_named() -> None:
    with pytest.raises(InputError, match=r"^by hand: map_scores_label must be 8 bytes; got 3 bytes"):
        load_map({**by_hand(), "map_scores_label": b"abc"}, "label")
    with pytest.raises(InputError, match=r"^target must be one of explained, label; got pred"):
        load_map(by_hand(), "pred")


def test_any_bytes_of_the_right_length_are_a_map_or_an_input_error() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        row = by_hand()
        for name in ("map_tracks", "map_alive", "map_members", "map_scores"):
            content = bytearray(row[name])
            content[rng.integers(len(content))] = rng.integers(256)
            row[name] = bytes(content)
        with suppress(InputError):
            assert load_map(row).shape == (3, HEIGHT, WIDTH)


def test_a_clip_takes_a_few_kilobytes(tmp_path: Path) -> None:
    dataset = open_dataset("rendered:pan=20:distractors=12")
    preprocessing = Preprocessing(16, 1, 112, (112, 112), (0.5,) * 3, (0.2,) * 3)
    clips = np.stack([dataset.read(sample, preprocessing).frames for sample in dataset.samples[:3]])
    tubes = make_tubes(optical_flow(clips), Config(), Timings())
    scores = np.random.default_rng(0).normal(size=(3, 196)).astype(np.float32)
    rows = [
        {"id": str(b)}
        | pack_map(
            *(part[b].numpy() for part in (tubes.tracks, tubes.alive, tubes.members)), scores[b], Config(), 112, 112
        )
        for b in range(3)
    ]
    assert rows[0]["map_shape"] == [196, 16, 4, 112, 112, 16, 16]
    group = pq.ParquetFile(parquet_rows(tmp_path, rows)).metadata.row_group(0)
    columns = [group.column(i) for i in range(group.num_columns)]
    sizes = {c.path_in_schema: c.total_compressed_size / 3 for c in columns if c.path_in_schema.startswith("map_")}
    assert sum(sizes.values()) < 5000
    assert sizes["map_tracks"] < 3000
