"""A folder that Hugging Face's `datasets` opens."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from aosa_fast.addresses import is_in_archive
from aosa_fast.audit.exports.clips import FLAT, Audit, ExportedClip
from aosa_fast.audit.store.schema import SCHEMA

_ROWS = 8192  # of a group of rows, and at once in memory
_OWN = {"tags": pa.list_(pa.string()), "findings": pa.list_(pa.string())}
_VIDEO = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_KINDS = {"float": "float32", "double": "float64"}
_CARD = """---
configs:
- config_name: default
  data_files: data/*.parquet
---
Clips of an audit of aosa-fast, with what a model looks at in them. `video` refers to the files by their path.
"""


def write_huggingface(audit: Audit, folder: Path) -> int:
    """Writes data/clips.parquet and README.md: `video`, `label_name`, and what else a row holds but grids and maps.

    No video is copied. Clips that have no file, or are in an archive, have no `video`.
    """
    (folder / "data").mkdir()
    (folder / "README.md").write_text(_CARD, encoding="utf-8")
    fields = [SCHEMA.field(name) for name in FLAT] + [pa.field(name, kind) for name, kind in _OWN.items()]
    features = {field.name: _feature(field.type) for field in fields} | {"video": {"_type": "Video"}}
    about = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema([*fields, pa.field("video", _VIDEO)], about)
    count = 0
    with pq.ParquetWriter(folder / "data" / "clips.parquet", schema, compression="zstd") as table:
        clips = audit.clips(FLAT)
        while rows := [_row(clip) for clip in islice(clips, _ROWS)]:
            table.write_table(pa.Table.from_pylist(rows, schema))
            count += len(rows)
    return count


def _row(clip: ExportedClip) -> dict[str, Any]:
    path = clip.row["path"]
    video = None if path is None or is_in_archive(path) else {"bytes": None, "path": path}
    return {**clip.row, "tags": clip.tags, "findings": [found.text for found in clip.findings], "video": video}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": _KINDS.get(str(kind), str(kind)), "_type": "Value"}
