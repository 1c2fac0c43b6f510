"""One clip of an audit, explained again as it was explained there, for a closer look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from aosa_fast.audit.report.rows import find_rows
from aosa_fast.audit.store.run_folder import RUN, read_run
from aosa_fast.audit.tasks import OK, sample_of
from aosa_fast.boundary import reading
from aosa_fast.config import Config
from aosa_fast.data import open_dataset
from aosa_fast.errors import InputError
from aosa_fast.evaluation.identity import weights_hash
from aosa_fast.models.loading import load_on, runs_code
from aosa_fast.output import write_explanation
from aosa_fast.pipeline import explain

_COLUMNS = ("id", "path", "start", "end", "seed", "data_label", "status", "error", "target")


def explain_again(
    folder: Path, clip_id: str, device: str, out: Path, *, model: str | None = None, trust: bool = False
) -> dict[str, str]:
    """Reads a clip as the audit did, explains the same class with the same config, and writes the results.

    Args:
        folder: of the audit.
        clip_id: of a row of it.
        device: as in `aosa_fast.models.loading.load_on`.
        out: folder for the results.
        model: where to find the model, as in `aosa_fast.models.load`; None: where the audit found it.
        trust: whether a model that the folder names may run code of its authors; see `aosa_fast.models.runs_code`.

    Returns:
        What to tell the user, by name.

    Raises:
        InputError: no audit or no such row; the clip failed there, or cannot be read now; other weights; a model that
            runs code, and that the caller has neither named nor trusts.
    """
    run = read_run(folder)
    identity, facts = run["identity"], run["facts"]
    with reading(folder / RUN, "must say how clips were explained", named=False):
        named, weights = str(identity["model"]), identity["weights"]
        data = {name: None if facts[name] is None else str(facts[name]) for name in ("data", "annotations", "split")}
        plain = identity["settings"]["config"]  # where JSON has lists for tuples
        choices: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()}
        config = Config(**choices)
    row = next(iter(find_rows(folder, [clip_id], _COLUMNS)), None)
    if row is None:
        raise InputError(f"ID must be that of a clip in {folder}; got {clip_id}")
    if row["status"] != OK:
        raise InputError(f"{clip_id}: must be a clip that was explained; its row says: {row['error']}")
    if model is None and not trust and runs_code(named):
        raise InputError(
            f"model={named} of {folder / RUN} must be named by --model, or trusted by --trust: loading it runs code"
        )
    spec = named if model is None else model
    classifier = load_on(spec, device)
    if weights_hash(classifier.network) != weights:
        raise InputError(f"model={spec} must have the weights of the audit; they have changed since")
    dataset = open_dataset(data["data"] or "", annotations=data["annotations"], split=data["split"])
    clip = dataset.read(sample_of(row), classifier.preprocessing)
    found = explain(
        classifier, torch.from_numpy(clip.frames[None]), torch.tensor([row["target"]], device="cpu"), config=config
    )
    found.metadata["source"] = {"audit": str(folder), "id": clip_id, "path": row["path"], "model": spec}
    files = write_explanation(found, out, clip.frames)
    meta = found.metadata
    return {
        "prediction": f"{meta['prediction'][0]} (p = {meta['prediction_probability'][0]:.3f})",
        "explained": f"{meta['target'][0]} (p = {meta['probability'][0]:.3f}), {config.unit}",
        **{name: str(path) for name, path in files.items()},
    }
