"""Findings and classes as Parquet, for other programs."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aosa_fast.audit.findings.types import AuditSummary, Confirmation
from aosa_fast.audit.measures import MEASURES
from aosa_fast.audit.store.schema import GRID
from aosa_fast.video import atomic_path

_TEXTS = pa.list_(pa.string())
_NUMBERS = pa.list_(pa.float32())
_ARROW = {"str": pa.string(), "bool": pa.bool_(), "int": pa.int32(), "float": pa.float64()}
FINDINGS = pa.schema(
    [
        ("rank", pa.int32()),  # from 1
        ("kind", pa.string()),
        ("class", pa.int32()),  # null for the whole data set
        ("class_name", pa.string()),
        ("where", pa.string()),
        ("text", pa.string()),
        ("effect", pa.float64()),
        ("effect_name", pa.string()),
        ("p_value", pa.float64()),
        ("count", pa.int32()),
        ("clips", _TEXTS),
        ("pictures", pa.string()),  # what a test of the pictures alone says
        # What hiding it does to the model; null where that was not tried.
        *((f"confirmed_{field.name}", _ARROW[str(field.type)]) for field in fields(Confirmation)),
        ("strengths", pa.list_(pa.float64())),  # of the clips, 0 to 1
        ("cells", pa.list_(pa.int32())),  # of the 8 x 8 cells of the frame, row by row, those that it is about
        ("frames", pa.list_(pa.int32())),  # the eighths of the clip
    ]
)
CLASSES = pa.schema(
    [
        ("class", pa.int32()),
        ("class_name", pa.string()),
        ("clips", pa.int32()),
        ("correct", pa.int32()),
        ("mean_probability", pa.float64()),
        ("mean_map", _NUMBERS),  # 8 x 8 x 8, time first
        ("mean_moving", _NUMBERS),
        ("mean_around", _NUMBERS),  # 9 x 9
        ("typical", _TEXTS),
        ("strangest", _TEXTS),
        *((f"median_{name}", pa.float64()) for name in MEASURES),
    ]
)


def write_tables(summary: AuditSummary, folder: Path) -> dict[str, Path]:
    """Writes findings.parquet and classes.parquet, and returns their paths by name."""
    findings = finding_rows(summary)
    classes = [
        {
            **{name: value.ravel() if isinstance(value, np.ndarray) else value for name, value in vars(own).items()},
            "class": own.index,
            "class_name": own.name,
            **{f"median_{name}": quartiles[1] for name, quartiles in own.measures.items()},
        }
        for own in summary.classes
    ]
    files = {"findings": folder / "findings.parquet", "classes": folder / "classes.parquet"}
    for rows, schema, path in zip((findings, classes), (FINDINGS, CLASSES), files.values(), strict=True):
        with atomic_path(path) as temporary:
            pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary, compression="zstd")
    return files


def finding_rows(summary: AuditSummary) -> list[dict[str, Any]]:
    """The rows of findings.parquet; what else they have is no column of it."""
    # Columns of the same name as an attribute are that attribute.
    return [
        {
            **vars(finding),
            "rank": rank,
            "class": finding.class_index,
            "cells": [row * GRID[2] + column for row, column in finding.boxes],
            **{
                f"confirmed_{name}": value
                for name, value in (asdict(finding.confirmed) if finding.confirmed else {}).items()
            },
        }
        for rank, finding in enumerate(summary.findings, 1)
    ]
