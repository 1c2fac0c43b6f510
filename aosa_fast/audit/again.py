"""One clip of an audit, explained again as it was explained there, for a closer look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from aosa_fast.audit.report.rows import find_rows
from aosa_fast.audit.run_folder import read_run
from aosa_fast.audit.tasks import OK, sample_of
from aosa_fast.config import Config
from aosa_fast.data import open_dataset
from aosa_fast.errors import InputError
from aosa_fast.evaluation.identity import weights_hash
from aosa_fast.pipeline import explain
from aosa_fast.run import load_on, write_explanation
from aosa_fast.units import units

_COLUMNS = ("id", "path", "start", "end", "seed", "data_label", "status", "error", "target")


def explain_again(folder: Path, clip_id: str, device: str, out: Path) -> dict[str, str]:
    """Reads a clip as the audit did, explains the same class with the same config, and writes the results.

    Args:
        folder: of the audit.
        clip_id: of a row of it.
        device: as in `aosa_fast.run.load_on`.
        out: folder for the results.

    Returns:
        What to tell the user, by name.

    Raises:
        InputError: no audit or no such row; the clip failed there, or cannot be read now; other weights.
    """
    run = read_run(folder)
    identity, facts = run["identity"], run["facts"]
    row = next(iter(find_rows(folder, [clip_id], _COLUMNS)), None)
    if row is None:
        raise InputError(f"ID must be that of a clip in {folder}; got {clip_id}")
    if row["status"] != OK:
        raise InputError(f"{clip_id}: must be a clip that was explained; its row says: {row['error']}")
    classifier = load_on(identity["model"], device)
    if weights_hash(classifier.network) != identity["weights"]:
        raise InputError(f"model={identity['model']} must have the weights of the audit; they have changed since")
    dataset = open_dataset(facts["data"], annotations=facts["annotations"], split=facts["split"])
    clip = dataset.read(sample_of(row), classifier.preprocessing)
    config = _config(identity["settings"]["config"])
    found = explain(classifier, torch.from_numpy(clip.frames[None]), torch.tensor([row["target"]]), config=config)
    found.metadata["source"] = {"audit": str(folder), "id": clip_id, "path": row["path"], "model": identity["model"]}
    files = write_explanation(found, out, clip.frames)
    meta = found.metadata
    return {
        "prediction": f"{meta['prediction'][0]} (p = {meta['prediction_probability'][0]:.3f})",
        "explained": f"{meta['target'][0]} (p = {meta['probability'][0]:.3f}), {units(config)}",
        **{name: str(path) for name, path in files.items()},
    }


def _config(plain: dict[str, Any]) -> Config:
    """The config of run.json: JSON has lists for tuples."""
    values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
    return Config(**values)
