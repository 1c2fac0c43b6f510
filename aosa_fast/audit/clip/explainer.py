"""What a model makes of clips: their rows, with the prediction, the map, its self-checks and what it lies on."""

from __future__ import annotations

import hashlib
import platform
import time
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from aosa_fast.audit.clip.answers import answers
from aosa_fast.audit.clip.appearance import look
from aosa_fast.audit.clip.measures import agreement, measure
from aosa_fast.audit.measures import MEASURES
from aosa_fast.audit.settings import Ready, Setup
from aosa_fast.audit.store.compact import pack_map
from aosa_fast.audit.store.dense import quantise
from aosa_fast.audit.store.strip import pack_strip
from aosa_fast.audit.tasks import OK, Prepared, Row, describe_sample, failed_row, plain_text
from aosa_fast.config import Config
from aosa_fast.data import Sample
from aosa_fast.errors import InputError, ModelError, ModelWarning, is_broken_device
from aosa_fast.evaluation.identity import match_classes, weights_hash
from aosa_fast.evaluation.scale import scaled_grid
from aosa_fast.explanation import Explanation
from aosa_fast.inference.precision import model_device
from aosa_fast.inference.routes import lasting_route
from aosa_fast.inputs import Given
from aosa_fast.libraries import OPENCV, version_of
from aosa_fast.methods.selfcheck import PROBABILITIES
from aosa_fast.models import Classifier
from aosa_fast.models.downloads import allow_downloads
from aosa_fast.models.loading import load_on
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.pipeline import run
from aosa_fast.targets import Target
from aosa_fast.version import __version__

TOP = 5
_SOURCE = ("source_height", "source_width", "source_fps", "source_frames")


class Explainer:
    """Explains prepared clips, a batch at a time; made in the process that does so.

    Attributes:
        ready: what the other processes need to know of the model.
    """

    def __init__(self, setup: Setup) -> None:
        """Loads the model.

        Raises:
            InputError: the model or the device cannot be used, the model does not know the data's classes, or there are
                no labels to explain.
        """
        if setup.threads:
            torch.set_num_threads(setup.threads)
        self._setup = setup
        self._settings = setup.settings
        with allow_downloads(setup.download):
            self._classifier = load_on(setup.model, setup.device)
        self._device = model_device(self._classifier.network, torch.device("cpu"))
        self._names = tuple(map(plain_text, self._classifier.class_names or ())) or None
        self._config = _config(setup, self._classifier)
        self._route = lasting_route(self._classifier.network, self._config)
        self.ready = Ready(
            preprocessing=self._classifier.preprocessing.for_audits(),
            class_names=self._names,
            labels=_match(setup, self._classifier),
            weights=weights_hash(self._classifier.network),
            config=self._config,
            device=str(self._device),
            versions={
                "aosa_fast": __version__,
                "torch": str(torch.__version__),
                "numpy": np.__version__,
                "opencv": version_of(*OPENCV) or "none",
                "python": platform.python_version(),
            },
        )

    def explain(self, clips: Sequence[Prepared]) -> list[Row]:
        """A row for each clip, in their order; the columns are those of `aosa_fast.audit.store.schema`.

        With `AuditSettings.dense` a row has "dense" beside, an `audit.store.dense.Quantised`, which is no column:
        who writes the row puts it into the store, and its place there into `dense_index`. Nor is "warnings", what is
        to be said of the model, in the first row that came after it was found.

        A batch that fails is explained again clip by clip, or, where the memory of the GPU is too small for it, by
        halves; a clip that fails alone gets a row with the error.

        Raises:
            RuntimeError: the GPU has failed, and this process must be replaced.
        """
        rows: dict[int, Row] = {}
        ready = list(range(len(clips)))
        if self._settings.target == "true":
            ready = [i for i in ready if self._label(clips[i].sample) is not None]
            rows = {i: self._without_label(clips[i]) for i in range(len(clips)) if i not in ready}
        with warnings.catch_warnings(record=True) as caught:
            # A row says of its own clip whether it is saturated; a warning a clip would fill the log of a long run.
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("always", ModelWarning)
            rows.update(zip(ready, self._try([clips[i] for i in ready]), strict=True))
        said = [str(warning.message) for warning in caught if issubclass(warning.category, ModelWarning)]
        if said:
            rows[0]["warnings"] = said
        return [rows[i] for i in range(len(clips))]

    def _try(self, clips: list[Prepared]) -> list[Row]:
        if not clips:
            return []
        size = 1
        try:
            return self._rows(clips)
        except torch.OutOfMemoryError as error:
            message, size = f"{type(error).__name__}: {error}", max(1, len(clips) // 2)
        except Exception as error:  # noqa: BLE001 - a model is anybody's code, and one clip must not end the run
            found = error.__cause__ if isinstance(error, ModelError) and error.__cause__ else error
            if is_broken_device(found):
                raise found from None
            message = str(found) if isinstance(found, InputError) else f"{type(found).__name__}: {found}"
        # Outside of the handler, whose traceback holds on to the tensors.
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)  # raises where the device has failed, whatever the error said
            torch.cuda.empty_cache()
        if len(clips) == 1:
            return [{**failed_row(clips[0].sample, "explain", message), **self._facts(clips[0])}]
        return [row for i in range(0, len(clips), size) for row in self._try(clips[i : i + size])]

    def _rows(self, clips: list[Prepared]) -> list[Row]:
        settings = self._settings
        labels = [self._label(clip.sample) for clip in clips]
        wanted = torch.tensor(labels, device="cpu") if settings.target == "true" else None
        found = self._explain(clips, wanted)
        predictions, count = found.logits.argmax(-1).tolist(), found.logits.shape[1]
        labels = [label if label is not None and label < count else None for label in labels]
        seconds = [found.metadata["seconds"]["total"] / len(clips)] * len(clips)
        rows = []
        others: dict[int, tuple[Explanation, int]] = {}  # what explains a clip's label, and where the clip is in that
        if settings.target == "both":
            places = [b for b, label in enumerate(labels) if label not in (None, predictions[b])]
            if places:
                wanted = torch.tensor([labels[b] for b in places], device="cpu")
                second = self._explain([clips[b] for b in places], wanted)
                others = {b: (second, i) for i, b in enumerate(places)}
            for b in places:
                seconds[b] += second.metadata["seconds"]["total"] / len(places)
        static, seconds_static = self._static(clips, found.target.index.tolist())
        for b, clip in enumerate(clips):
            seconds[b] += seconds_static if b in static else 0.0
            check: Row = {"taylor_error": None, "taylor_correlation": None}
            if self._config.record.has_check and is_checked(clip.sample.id, settings.seed, settings.check_share):
                check, more = self._check(clip, found.target.index[b : b + 1])
                seconds[b] += more
            row = {**self._facts(clip), "status": OK, "stage": None, "error": None, "attempts": 1}
            row |= {**self._answer(found, b, labels[b]), **check, "seconds_model": seconds[b]}
            row |= self._measures(found, b, clip, labels[b] == predictions[b], others.get(b))
            row |= static.get(b, {"static_prediction": None})
            rows.append(row | self._map(found, b, others.get(b)) | self._strip(clip))
        return rows

    def _explain(self, clips: Sequence[Prepared], target: Tensor | None, config: Config | None = None) -> Explanation:
        pictures = torch.from_numpy(np.stack([clip.clip.frames for clip in clips]))
        flow = torch.from_numpy(np.stack([clip.flow for clip in clips]))
        wanted: Target = "pred" if target is None else target
        given = Given(flow=flow)
        return run(self._classifier, pictures, wanted, config or self._config, given, route=self._route)  # type: ignore[return-value]

    def _static(self, clips: Sequence[Prepared], targets: Sequence[int]) -> tuple[dict[int, Row], float]:
        """What one repeated frame says, of a sample of the clips by their places; and the seconds that each took."""
        start, settings = time.perf_counter(), self._settings
        places = [b for b, clip in enumerate(clips) if is_checked(clip.sample.id, settings.seed, settings.static_share)]
        if not places:
            return {}, 0.0
        frames = [clips[b].clip.frames for b in places]
        still = np.stack([np.repeat(own[len(own) // 2, None], len(own), axis=0) for own in frames])
        said = answers(self._classifier, still, self._config, self._route)
        found: dict[int, Row] = {
            b: {"static_probability": float(own[targets[b]]), "static_prediction": int(own.argmax())}
            for b, own in zip(places, said, strict=True)
        }
        return found, (time.perf_counter() - start) / len(places)

    def _check(self, clip: Prepared, target: Tensor) -> tuple[Row, float]:
        """First-order scores against exact ones, on some tubes of one clip; and the seconds that it took."""
        found = self._explain([clip], target, replace(self._config, check=self._settings.check_tubes))
        report = found.metadata["self_check"]["exact"][0]
        drop = float(np.abs(report["exact"]).mean())
        error = report["mean_absolute_error"] / drop if drop > 0 else None
        seconds: float = found.metadata["seconds"]["total"]
        return {"taylor_error": error, "taylor_correlation": report["correlation"]}, seconds

    def _facts(self, clip: Prepared) -> Row:
        """What is known of a clip before it is explained."""
        return {
            **describe_sample(clip.sample, self._label_name(clip.sample)),
            "content_hash": clip.content_hash,
            **look(clip.clip.frames[: len(clip.clip.frames) - clip.clip.looped]),
            **dict(zip(("frames", "height", "width"), clip.clip.frames.shape[:3], strict=True)),
            **dict(zip(_SOURCE, clip.clip.source or (None,) * len(_SOURCE), strict=True)),
            "first_frame": int(clip.clip.indices[0]),
            **{name: getattr(clip.clip, name) for name in ("looped", "damaged", "replaced")},
            **{f"seconds_{step}": clip.seconds.get(step) for step in ("read", "flow", "motion")},
        }

    def _answer(self, found: Explanation, b: int, label: int | None) -> Row:
        logits = found.logits[b]
        probabilities = found.probabilities[b]
        best = logits.argsort(descending=True, stable=True)[:TOP]
        top, prediction, target = best.tolist(), int(logits.argmax()), int(found.target.index[b])
        check = found.metadata["self_check"]
        return {
            "label": label,
            "prediction": prediction,
            "prediction_name": self._names[prediction] if self._names else None,
            "probability": float(probabilities[prediction]),
            "label_probability": None if label is None else float(probabilities[label]),
            "top5": top,
            "top5_names": [self._names[i] for i in top] if self._names else None,
            "top5_probabilities": probabilities[best].tolist(),
            "target": target,
            "score": float(found.clean_scores[b, target]),
            "uncovered_share": check["uncovered_share"][b],
            "saturated": check["saturated"][b] and self._config.score_name in PROBABILITIES,
        }

    def _measures(
        self, found: Explanation, b: int, clip: Prepared, is_right: bool, other: tuple[Explanation, int] | None
    ) -> Row:
        start = time.perf_counter()
        saliency = found.saliency[b].numpy()
        # The field that tubes integrate, where there is one: a tube spans the clip, and cannot say when.
        field = saliency if found.relevance is None else found.relevance[b].numpy()
        values: Row = {**dict.fromkeys(MEASURES), **measure(field, clip)}
        if other is not None:
            values["agreement"] = agreement(saliency, other[0].saliency[other[1]].numpy())
        elif self._settings.target == "both" and is_right:
            values["agreement"] = 1.0
        return {**values, "seconds_measures": time.perf_counter() - start}

    def _map(self, found: Explanation, b: int, other: tuple[Explanation, int] | None) -> Row:
        row: Row = {"dense_index": None}
        if self._settings.dense:
            row["dense"] = quantise(found.saliency[b].numpy())
        if self._settings.maps != "keep":
            return row
        label = None
        if other is not None:
            of_label, i = other
            label = of_label.scores[i].numpy(), float(of_label.clean_scores[i, of_label.target.index[i]])
        tracks, alive, members, scores = (
            part[b].numpy() for part in (found.tracks, found.alive, found.members, found.scores)
        )
        height, width = found.saliency.shape[2:]
        return {**row, **pack_map(tracks, alive, members, scores, found.config, height, width, label)}

    def _strip(self, clip: Prepared) -> Row:
        """What the page shows of a clip that it cannot prepare itself."""
        own = type(self.ready.preprocessing) is not Preprocessing
        return {"strip": pack_strip(clip.clip.frames) if own and self._settings.maps == "keep" else None}

    def _without_label(self, clip: Prepared) -> Row:
        sample = clip.sample
        name = self._label_name(sample) or ("none" if sample.label is None else sample.label)
        message = f"{sample.id}: must have a label that the model knows, or be audited with target=pred; got {name}"
        return {**failed_row(sample, "explain", message), **self._facts(clip)}

    def _label(self, sample: Sample) -> int | None:
        """The model's index of a clip's class; None where it has none, or the model does not know it."""
        return None if sample.label is None else self.ready.labels.get(sample.label)

    def _label_name(self, sample: Sample) -> str | None:
        names = self._setup.class_names or self._names
        return names[sample.label] if names and sample.label is not None and 0 <= sample.label < len(names) else None


def is_checked(clip_id: str, seed: int, share: float) -> bool:
    """Whether a clip is among the share of all that is held against exact scores: by its name, whoever explains it."""
    digest = hashlib.blake2b(f"{seed}:{clip_id}".encode("utf-8", "backslashreplace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < share * 2.0**64


def _match(setup: Setup, classifier: Classifier) -> dict[int, int]:
    if setup.settings.shows_label and not setup.used_labels:
        raise InputError(f"{setup.data}: must have labels, or be audited with target=pred; it has none")
    return match_classes(
        setup.data, setup.class_names, setup.used_labels, classifier, all_known=setup.settings.shows_label
    )


def _config(setup: Setup, classifier: Classifier) -> Config:
    """The config for this model: its checks are made on a sample of clips only, and the seed is the audit's."""
    settings = setup.settings
    crop = classifier.preprocessing.crop
    grid = scaled_grid(crop, settings.stride, settings.box)
    if (stride := grid["stride"]) // 2 >= min(crop):
        raise InputError(f"stride must be at most {2 * min(crop) - 1} for frames of {crop[0]}x{crop[1]}; got {stride}")
    return replace(settings.config, **grid, check=0, seed=settings.seed)
