"""Deletion and insertion: the score as the most salient voxels go, or come (paper IV-B; method: section 9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from aosa_fast.config import Config
from aosa_fast.errors import InputError
from aosa_fast.inference.batching import BatchSize
from aosa_fast.inference.behaviour import Behaviour, check_score, settle, study
from aosa_fast.inference.call import Model, call_model, clean_logits, evaluating, input_format
from aosa_fast.inference.precision import check_device, model_device, precision
from aosa_fast.methods.fills import blur
from aosa_fast.methods.inputs import upload
from aosa_fast.metrics.protocol import Curve, Overall, Protocol, find_protocol
from aosa_fast.metrics.similarity import Map, read_map
from aosa_fast.models.classifier import read_names
from aosa_fast.targets import ResolvedTarget, Target, class_scores, probabilities, resolve_target


def causal_metrics(
    model: Model,
    video: Tensor,  # (B, C, T, H, W)
    saliency: Map,  # (B, T, H, W)
    target: Target,
    *,
    protocols: Sequence[str | Protocol] = ("aosa-28", "aosa-28-fill"),
    batch_size: int = 0,
    dtype: str | None = None,
    class_names: Sequence[str] | None = None,
) -> dict[str, Overall]:
    """Insertion and deletion by several protocols; those that delete alike share the deletion.

    Args:
        model: as for `aosa_fast.explain`; it is left as it was. The work is done where the model is.
        video: (B, C, T, H, W) float32, normalised as the model expects; never written to.
        saliency: (B, T, H, W), or (T, H, W) for one clip: a tensor or an array of any real dtype, from anywhere.
        target: as for `aosa_fast.explain`; the paper asks for the ground truth.
        protocols: names among `PROTOCOLS`, or `Protocol` objects of different names.
        batch_size: clips per forward; 0 leaves the choice to the package.
        dtype: precision of the model, as in `Config`.
        class_names: by index, for `target`.

    Returns:
        The results by the protocols' names.

    Raises:
        InputError: an argument, or what the model returns, breaks a rule; the message names it.
        TypeError: `video` is not a float32 tensor.
    """
    wanted = [find_protocol(protocol) for protocol in protocols]
    if not wanted or len({protocol.name for protocol in wanted}) < len(wanted):
        names = ", ".join(protocol.name for protocol in wanted) or "none"
        raise InputError(f"protocols must be at least one, each of another name; got {names}")
    found: dict[str, Overall] = {}
    deletions: dict[Protocol, Curve] = {}
    with _prepared(model, video, saliency, target, batch_size=batch_size, dtype=dtype, class_names=class_names) as job:
        for protocol in wanted:
            alike = replace(protocol, name="", insertion="blur")
            if alike not in deletions:
                deletions[alike] = job.deletion(protocol)
            shared = replace(deletions[alike], metadata=job.describe(protocol, "deletion"))
            found[protocol.name] = Overall(job.insertion(protocol), shared)
    return found


def overall(
    model: Model, video: Tensor, saliency: Map, target: Target, *, protocol: str | Protocol = "aosa-28", **options: Any
) -> Overall:
    """Insertion less deletion, with both curves. As `causal_metrics`."""
    protocol = find_protocol(protocol)
    return causal_metrics(model, video, saliency, target, protocols=(protocol,), **options)[protocol.name]


def deletion(
    model: Model, video: Tensor, saliency: Map, target: Target, *, protocol: str | Protocol = "aosa-28", **options: Any
) -> Curve:
    """The most salient voxels are deleted first: a good map's curve falls fast. As `causal_metrics`."""
    protocol = find_protocol(protocol)
    with _prepared(model, video, saliency, target, **options) as job:
        return job.deletion(protocol)


def insertion(
    model: Model, video: Tensor, saliency: Map, target: Target, *, protocol: str | Protocol = "aosa-28", **options: Any
) -> Curve:
    """The most salient voxels are put back first: a good map's curve rises fast. As `causal_metrics`."""
    protocol = find_protocol(protocol)
    with _prepared(model, video, saliency, target, **options) as job:
        return job.insertion(protocol)


def check_video(video: Tensor) -> None:
    """Raises InputError or TypeError unless `video` is a finite (B, C, T, H, W) float32 tensor."""
    if not isinstance(video, Tensor) or video.dtype != torch.float32:
        got = video.dtype if isinstance(video, Tensor) else type(video).__name__
        raise TypeError(f"video must be a float32 tensor, normalised as the model expects; got {got}")
    if video.ndim != 5 or 0 in video.shape:
        raise InputError(f"video must have shape (B, C, T, H, W), nothing empty; got {tuple(video.shape)}")
    if not torch.isfinite(video).all():
        raise InputError("video must be finite; got NaN or infinity")


@contextmanager
def _prepared(
    model: Model,
    video: Tensor,
    saliency: Map,
    target: Target,
    *,
    batch_size: int = 0,
    dtype: str | None = None,
    class_names: Sequence[str] | None = None,
) -> Iterator[_Job]:
    """Checks the arguments, brings them to the model, and holds it in evaluation mode."""
    Config(batch_size=batch_size, dtype=dtype)  # checks them
    check_video(video)
    device = model_device(model, video.device)
    check_device(device, video.device, dtype)
    values = read_map(saliency)
    size = (len(video), *video.shape[2:])
    if values.shape != size:
        raise InputError(
            f"saliency must have the clip's size (B, T, H, W) = {size}, or be interpolated to it first; "
            f"got {tuple(saliency.shape)}"
        )
    clips = upload(video.detach(), device)
    with evaluating(model), precision(dtype, device):
        seen = study(model, clips, batched=batch_size != 1, dtype=dtype)
        batches = BatchSize(seen.batch_size(batch_size), device)
        logits = clean_logits(model, clips, batches, dtype)
        settle(model, seen, logits, "prob")
        resolved = resolve_target(target, logits, read_names(class_names))
        yield _Job(model, clips, _ranks(values.to(device)), logits, resolved, batches, dtype, video.device, seen)


def _ranks(values: Tensor) -> Tensor:
    """(B, T, H, W) int32, each voxel's place in its clip's order: 0 is the most salient."""
    order = values.flatten(1).sort(dim=1, descending=True, stable=True).indices
    places = torch.arange(order.shape[1], dtype=torch.int32, device=order.device).expand_as(order)
    return torch.empty(order.shape, dtype=torch.int32, device=order.device).scatter_(1, order, places).view_as(values)


@dataclass(frozen=True, eq=False)
class _Job:
    """The clips where the model is, their voxels' ranks (B, T, H, W), and the logits of the whole clips."""

    model: Model
    video: Tensor
    ranks: Tensor
    logits: Tensor
    target: ResolvedTarget
    batches: BatchSize
    dtype: str | None
    home: torch.device
    seen: Behaviour

    def deletion(self, protocol: Protocol) -> Curve:
        rest = self._scores(protocol, self.video, self.video.new_zeros(()), self._changed(protocol)[1:])
        return self._curve(protocol, "deletion", torch.cat([self._whole(protocol), rest], 1))

    def insertion(self, protocol: Protocol) -> Curve:
        start = blur(self.video) if protocol.insertion == "blur" else self.video.new_zeros(())
        rest = self._scores(protocol, start, self.video, self._changed(protocol)[:-1])
        return self._curve(protocol, "insertion", torch.cat([rest, self._whole(protocol)], 1))

    def describe(self, protocol: Protocol, curve: str) -> dict[str, Any]:
        """What a curve's reader must know, in plain types."""
        values = probabilities(self.logits, protocol.score, self.seen.output)
        probability = ResolvedTarget(self.target.index).pick(values)
        return {
            **protocol.as_dict(),
            "curve": curve,
            "target_index": self.target.index.tolist(),
            "minus_index": None if self.target.minus is None else self.target.minus.tolist(),
            "probability": probability.tolist(),
            "voxels": self.ranks[0].numel(),
        }

    def _changed(self, protocol: Protocol) -> list[int]:
        return protocol.voxels_changed(self.ranks[0].numel())

    def _whole(self, protocol: Protocol) -> Tensor:
        """(B, 1): both curves hold the whole clip, which the model has already seen."""
        check_score(self.model, self.seen, protocol.score)
        return self.target.pick(class_scores(self.logits, protocol.score)).unsqueeze(1)

    def _curve(self, protocol: Protocol, name: str, scores: Tensor) -> Curve:
        fractions = torch.tensor(self._changed(protocol), dtype=torch.float64, device="cpu") / self.ranks[0].numel()
        area = (scores.double().sum(1) - scores[:, [0, -1]].double().mean(1)) / protocol.steps
        home, metadata = self.home, self.describe(protocol, name)
        return Curve(fractions.float().to(home), scores.to(home), area.float().to(home), metadata)

    def _scores(self, protocol: Protocol, before: Tensor, after: Tensor, changed: list[int]) -> Tensor:
        """(B, len(changed)) float32: of `before`, with so many of its voxels as in `after`.

        Each of the two is like the clips, or one number. The batch is written straight into the model's input, and goes
        on from one clip to the next.
        """
        dtype, layout = input_format(self.model, self.dtype)
        before, after = (
            side.to(dtype=dtype, memory_format=layout if side.ndim else torch.preserve_format)
            for side in (before, after)
        )
        rows = len(self.video) * len(changed)
        shape = (min(self.batches.clips, rows), *self.video.shape[1:])
        buffer = torch.empty(shape, dtype=dtype, memory_format=layout, device=self.video.device)
        parts = []

        def step(begin: int, end: int) -> None:
            batch = buffer[: end - begin]
            clips = [row // len(changed) for row in range(begin, end)]
            for place, clip in enumerate(clips):
                is_changed = self.ranks[clip] < changed[(begin + place) % len(changed)]
                own = (side[clip] if side.ndim else side for side in (after, before))
                torch.where(is_changed, *own, out=batch[place])
            parts.append(self.target.take(clips).pick(class_scores(call_model(self.model, batch), protocol.score)))

        with torch.no_grad():
            self.batches.run(rows, step)
        return torch.cat(parts).reshape(len(self.video), -1)
