"""One clip of an audit, explained again as it was explained there, for a closer look."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aosa_fast import pipeline
from aosa_fast.audit.report.rows import find_rows
from aosa_fast.audit.store.run_folder import RUN, read_run
from aosa_fast.audit.store.schema import SCHEMA
from aosa_fast.audit.tasks import OK, sample_of
from aosa_fast.boundary import reading
from aosa_fast.config import Config
from aosa_fast.data import open_dataset
from aosa_fast.errors import InputError
from aosa_fast.evaluation.identity import weights_hash
from aosa_fast.explanation import Explanation
from aosa_fast.inference.routes import lasting_route
from aosa_fast.models.loading import load_on, runs_code


def explain_again(
    folder: Path, clip_id: str, device: str, *, model: str | None = None, trust: bool = False
) -> tuple[Explanation, NDArray[np.uint8]]:
    """Reads a clip as the audit did, and explains the same class with the same config.

    Args:
        folder: of the audit.
        clip_id: of a row of it.
        device: as in `aosa_fast.models.loading.load_on`.
        model: where to find the model, as in `aosa_fast.models.load`; None: where the audit found it.
        trust: whether a model that the folder names may run code of its authors; see `aosa_fast.models.runs_code`.

    Returns:
        The explanation, and the frames that it is of, (T, H, W, 3) uint8, RGB, as the model sees them.

    Raises:
        InputError: no audit or no such row; the clip failed there, or cannot be read now; other weights; a model that
            runs code, and that the caller has neither named nor trusts.
    """
    run = read_run(folder)
    identity, facts = run["identity"], run["facts"]
    with reading(folder / RUN, "must say how clips were explained", named=False):
        named, weights = str(identity["model"]), identity["weights"]
        scaled = bool(identity["preprocessing"].get("decoder_scales"))
        data, annotations, split = (
            None if facts[name] is None else str(facts[name]) for name in ("data", "annotations", "split")
        )
        config = Config.from_dict(identity["settings"]["config"])
    row = next(iter(find_rows(folder, [clip_id], SCHEMA.names)), None)
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
    dataset = open_dataset(data or "", annotations=annotations, split=split)
    clip = dataset.read(sample_of(row), classifier.preprocessing.changed(decoder_scales=scaled))
    target = torch.tensor([row["target"]], device="cpu")
    route = lasting_route(classifier.network, config)
    pictures = torch.from_numpy(clip.frames[None])
    found = pipeline.run(classifier, pictures, target, config, pipeline.Given(), route=route)
    assert isinstance(found, Explanation)
    found.metadata["source"] = {"audit": str(folder), "id": clip_id, "path": row["path"], "model": spec}
    return found, clip.frames
