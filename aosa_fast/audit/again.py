"""The model and the data of an audit, opened again; and one clip of it, explained as it was explained there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from aosa_fast import pipeline
from aosa_fast.audit.report.rows import find_rows
from aosa_fast.audit.store.run_folder import RUN, read_run
from aosa_fast.audit.store.schema import SCHEMA
from aosa_fast.audit.tasks import OK, sample_of
from aosa_fast.boundary import reading
from aosa_fast.config import Config
from aosa_fast.data import Dataset
from aosa_fast.data.opening import open_recorded
from aosa_fast.errors import InputError
from aosa_fast.evaluation.identity import weights_hash
from aosa_fast.explanation import Explanation
from aosa_fast.inference.routes import lasting_route
from aosa_fast.inputs import Given
from aosa_fast.models import Classifier
from aosa_fast.models.loading import load_on, runs_code


@dataclass(frozen=True)
class Audited:
    """What an audit's folder says of how its rows were made.

    Attributes:
        folder: of the audit.
        model: where it found the model, as in `aosa_fast.models.load`.
        weights: hash of the model's weights.
        facts: what else `run.json` holds; where it found the clips is among it.
        config: how they were explained.
        decoder_scales: how they were read, see `Preprocessing`.
    """

    folder: Path
    model: str
    weights: str | None
    facts: dict[str, Any]
    config: Config
    decoder_scales: bool

    def load(self, device: str, *, model: str | None = None, trust: bool = False) -> Classifier:
        """The model, with the weights that it had, which reads clips as the audit did.

        Args:
            device: as in `aosa_fast.models.loading.load_on`.
            model: where to find it; None: where the audit did.
            trust: whether a model that the folder names may run code of its authors; see `aosa_fast.models.runs_code`.

        Raises:
            InputError: as `load_on`; other weights; a model that runs code, and that the caller has neither named nor
                trusts.
        """
        if model is None and not trust and runs_code(self.model):
            raise InputError(
                f"model={self.model} of {self.folder / RUN} must be named by --model, or trusted by --trust: "
                "loading it runs code"
            )
        spec = self.model if model is None else model
        classifier = load_on(spec, device)
        if weights_hash(classifier.network) != self.weights:
            raise InputError(f"model={spec} must have the weights of the audit; they have changed since")
        return replace(classifier, preprocessing=classifier.preprocessing.changed(decoder_scales=self.decoder_scales))

    def open_data(self, *, trust: bool = False) -> Dataset:
        """The data set. Raises InputError as `open_recorded`."""
        return open_recorded(self.facts, self.folder / RUN, trust=trust)


def read_audited(folder: Path) -> Audited:
    """Reads it from `run.json`.

    Raises:
        InputError: no audit, or one that does not say.
    """
    run = read_run(folder)
    identity, facts = run["identity"], run["facts"]
    with reading(folder / RUN, "must say how clips were explained", named=False):
        config = Config.from_dict(identity["settings"]["config"])
        scaled = bool(identity["preprocessing"].get("decoder_scales"))
        model, weights = str(identity["model"]), identity["weights"]
        return Audited(folder, model, weights, facts, config, scaled)


def explain_again(
    folder: Path, clip_id: str, device: str, *, model: str | None = None, trust: bool = False
) -> Explanation:
    """Reads a clip as the audit did, and explains the same class with the same config.

    Args:
        folder: of the audit.
        clip_id: of a row of it.
        device: this and the rest as in `Audited.load`.
        model: see there.
        trust: see there.

    Raises:
        InputError: no audit or no such row; the clip failed there, or cannot be read now; as `Audited.load`.
    """
    audited = read_audited(folder)
    row = next(iter(find_rows(folder, [clip_id], SCHEMA.names)), None)
    if row is None:
        raise InputError(f"ID must be that of a clip in {folder}, as its rows and its report have it; got {clip_id}")
    if row["status"] != OK:
        raise InputError(f"{clip_id}: must be a clip that was explained; its row says: {row['error']}")
    classifier = audited.load(device, model=model, trust=trust)
    clip = audited.open_data(trust=trust).read(sample_of(row), classifier.preprocessing)
    target = torch.tensor([row["target"]], device="cpu")
    route = lasting_route(classifier.network, audited.config)
    pictures = torch.from_numpy(clip.frames[None])
    found = pipeline.run(classifier, pictures, target, audited.config, Given(), route=route)
    assert isinstance(found, Explanation)
    source = {"audit": str(folder), "id": clip_id, "path": row["path"], "model": model or audited.model}
    found.metadata["source"] = source
    return found
