"""AOSA within a time: exact where it matters, estimated elsewhere (method: section 13)."""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import Future

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from aosa_fast.errors import InputError
from aosa_fast.inference.batching import BatchSize
from aosa_fast.kernels.field import field_scores
from aosa_fast.kernels.tube_overlaps import tube_overlaps
from aosa_fast.methods.comparators import in_batches
from aosa_fast.methods.fills import make_fill
from aosa_fast.methods.input_gradients import Found, input_gradients
from aosa_fast.methods.job import Job, Result
from aosa_fast.methods.maps import make_map
from aosa_fast.methods.regression import Regression, choose
from aosa_fast.methods.sweep import first_of_twins, occlusion_sweep
from aosa_fast.methods.tubes import Tubes
from aosa_fast.targets import ResolvedTarget, class_scores

TUBES = 4  # of a batch, unless `batch_size` is more
CELL = 4  # side of a cell of the overlaps, pixels
EVEN = 0.05  # the part of a cell's weight that does not depend on the gradient


def budgeted(job: Job, tubes_soon: Future[Tubes]) -> list[Result]:
    """AOSA until `job.config.budget_ms` have passed: a gradient per target, then batches of the tubes that tell most.

    With no time for a batch the scores are those of first order.
    """
    config, video = job.config, job.video
    begin = time.perf_counter()
    with job.timings("model"):
        logits, targets, grads = _gradients(job)
    gradient_seconds = time.perf_counter() - begin
    clean = class_scores(logits, config.score_name)
    tubes = tubes_soon.result()
    fill = make_fill(video, config, job.mean, job.std)
    priors, weights = [], []
    with job.timings("field and scores"):
        for grad in grads:
            relevance, scores = field_scores(video, grad, tubes.boxes, tubes.members, fill, relu="none")
            priors.append(scores)
            weights.append(relevance.abs_())
    clips = [
        _Clip(job, b, tubes, fill, [p[b] for p in priors], [w[b] for w in weights], targets, clean)
        for b in range(len(video))
    ]
    with job.timings("sweep"):
        # The forward of a batch takes less than half of what forward and backward of its clips would take.
        _spend(job, clips, gradient_seconds * clips[0].step / (2 * len(video)))
    results = []
    for k, target in enumerate(targets):
        scores = torch.stack([clip.scores(k) for clip in clips])
        with job.timings("map"):
            saliency, coverage = make_map(scores, target.pick(clean), tubes, config, *video.shape[3:])
        exact = torch.stack([clip.exact() for clip in clips])
        samples = torch.stack([clip.samples() for clip in clips]) if exact.all() else None
        errors = torch.stack([clip.errors(k) for clip in clips])
        results.append(
            Result(target, tubes, scores, saliency, coverage, logits, samples=samples, exact=exact, errors=errors)
        )
    return results


def _gradients(job: Job) -> Found:
    try:
        return in_batches(job, input_gradients)
    except InputError as error:
        text = f"budget_ms must have a model with a gradient, which method=aosa without budget_ms needs not: {error}"
        raise type(error)(text) from error.__cause__


def _spend(job: Job, clips: list[_Clip], expected: float) -> None:
    """Batches of one clip after the other, as long as one fits into the time by what the last ones took, seconds."""
    assert job.config.budget_ms is not None
    deadline = job.start + job.config.budget_ms / 1e3
    took: deque[float] = deque(maxlen=3)
    waiting = deque(clip for clip in clips if clip.unknown)
    while waiting and time.perf_counter() + expected <= deadline:
        clip = waiting.popleft()
        if not clip.regressions:
            clip.begin()
            if time.perf_counter() + expected > deadline:
                break
        begin = time.perf_counter()
        clip.ask()
        took.append(time.perf_counter() - begin)
        expected = max(took)
        if clip.unknown:
            waiting.append(clip)
        if job.progress:
            total = sum(clip.count for clip in clips)
            job.progress(total - sum(clip.unknown for clip in clips), total)


class _Clip:
    """One clip: its tubes that differ, and what is known of them for each target."""

    def __init__(
        self,
        job: Job,
        number: int,
        tubes: Tubes,
        fill: Tensor,
        priors: list[Tensor],
        weights: list[Tensor],
        targets: list[ResolvedTarget],
        clean: Tensor,
    ) -> None:
        """priors (N,) and weights (T, H, W), |first-order field|, per target; clean (B, n_classes)."""
        self.job = job
        self.video, self.fill = (values[number : number + 1] for values in (job.video, fill))
        self.priors, self.weights = priors, weights
        self.tubes = Tubes(
            *(part[number : number + 1] for part in (tubes.tracks, tubes.alive, tubes.boxes, tubes.members))
        )
        self.targets = [target.take([number]) for target in targets]
        self.clean = clean[number : number + 1]
        # Tubes of the same members are one: the first of them stands for all.
        members = self.tubes.members[0]
        first, self.place = first_of_twins(members, torch.zeros(len(members), dtype=torch.int32, device="cpu"))
        self.first = first.tolist()
        self.count = len(self.first)
        self.step = max(TUBES, job.config.batch_size)
        self.regressions: list[Regression] = []
        self.class_scores: dict[int, Tensor] = {}  # (n_classes,) of the tubes that were asked

    @property
    def unknown(self) -> int:
        """How many different tubes were not asked."""
        return self.count - len(self.class_scores)

    def begin(self) -> None:
        """Overlaps of the tubes, per target: what the first answers are spread by."""
        counts = torch.bincount(self.place, minlength=self.count).double()
        for prior, weights in zip(self.priors, self.weights, strict=True):
            cells = avg_pool2d(weights.unsqueeze(0), CELL, ceil_mode=True)
            mean = cells.mean()
            cells = EVEN + (1 - EVEN) * torch.where(mean > 0, cells / mean, torch.ones_like(cells))
            overlaps = tube_overlaps(cells, self.tubes.boxes, self.tubes.members, CELL)[0].cpu().double()
            overlaps = overlaps[self.first][:, self.first]
            self.regressions.append(Regression(prior[self.first].cpu().double(), overlaps, counts))

    def ask(self) -> None:
        """One batch."""
        job, chosen = self.job, choose(self.regressions, self.step)
        batches = BatchSize(job.config.batch_size, self.video.device)
        anchors = [[self.first[u] for u in chosen]]
        swept = occlusion_sweep(
            job.model, self.video, self.fill, self.tubes, job.config, batches, anchors=anchors
        ).mean(2)
        self.class_scores.update(zip(chosen, swept[0], strict=True))
        for target, regression in zip(self.targets, self.regressions, strict=True):
            drops = target.pick(self.clean).unsqueeze(1) - target.pick(swept)
            regression.tell(chosen, drops[0].cpu().double())

    def exact(self) -> Tensor:
        """(N,) bool."""
        known = torch.zeros(self.count, dtype=torch.bool, device="cpu")
        known[[*self.class_scores]] = True
        return known[self.place].to(self.clean.device)

    def scores(self, k: int) -> Tensor:
        """(N,) float32 of target k."""
        if not self.class_scores:
            return self.priors[k]
        return self.regressions[k].estimate[self.place].float().to(self.clean.device)

    def errors(self, k: int) -> Tensor:
        """(N,) float32 of target k; NaN where nothing was asked."""
        if not self.class_scores:
            return torch.full_like(self.priors[k], torch.nan)
        return self.regressions[k].error[self.place].float().to(self.clean.device)

    def samples(self) -> Tensor:
        """(N, 1, n_classes) float32, once all tubes are known."""
        return torch.stack([self.class_scores[u] for u in self.place.tolist()]).unsqueeze(1)
