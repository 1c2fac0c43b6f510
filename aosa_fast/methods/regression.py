"""The exact scores of all tubes, as far as a few of them tell: a Gaussian regression (method: section 13)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# Grid of the residual's variance, in mean squares of the prior scores, and of the share of it that no other tube knows.
SPREADS = tuple(0.05 * 3.0**k for k in range(16))
NUGGETS = (0.003, 0.03, 0.3)
FLOOR = 0.3  # of a tube's variance, in that of a tube with the mean score
OWN_MISSES = 4  # so many misses of one standard error are taken as seen before the first


class Regression:
    """What is known of one clip's scores s of one target, all float64.

    Before any answer, s ~ N(b a, r2 D K D) with b ~ N(1, 1): `a` are first-order scores, K is the tubes' overlap, and
    D_i^2 = 0.3 + |s_i| / mean |s| of the estimate so far. r2 and the nugget are those of the largest marginal
    likelihood on a grid. A tube that was asked is known exactly.

    Attributes:
        estimate: (U,) the scores, exact where known.
        error: (U,) standard errors, 0 where known; NaN before the first answer.
        known: which tubes were asked, in this order.
        counts: (U,) how many equal tubes each stands for.
    """

    def __init__(self, prior: Tensor, overlaps: Tensor, counts: Tensor) -> None:
        """prior (U,), overlaps (U, U) and counts (U,), each for the tubes that differ."""
        self.estimate, self.error = prior.clone(), torch.full_like(prior, torch.nan)
        self.known: list[int] = []
        self._prior, self._overlaps, self.counts = prior, overlaps, counts
        self._spread, self._nugget = 1.0, 0.05
        self._values = prior.new_empty(0)
        self._missed = 0  # answers that there was an estimate of
        self._misses = 0.0  # the sum of the squares of their (answer - estimate) / error
        self._kernel = self._make_kernel()

    @property
    def calibration(self) -> float:
        """What the regression's own errors are multiplied by: the size of its misses so far, but at least 1."""
        return max(1.0, ((OWN_MISSES + self._misses) / (OWN_MISSES + self._missed)) ** 0.5)

    def covariance(self) -> Tensor:
        """(U, U): of what is not known yet, in units of the prior's mean square; all but the nugget."""
        factor, unit = self._factor(self._nugget), self._unit()
        across = _solve(factor, self._kernel[self.known])
        slope = _solve(factor, unit[self.known])
        left = unit - across.mT @ slope
        of_slope = 1 / (1 + slope @ slope / self._spread)
        return self._spread * (self._kernel - across.mT @ across) + of_slope * torch.outer(left, left)

    @property
    def noise(self) -> Tensor:
        """(U,): the nugget's variance, in the same units."""
        return self._spread * self._nugget * self._kernel.diagonal()

    def tell(self, tubes: Sequence[int], values: Tensor) -> None:
        """Takes in the exact scores of more tubes."""
        if self.known:
            surprise = (values - self.estimate[tubes]) / self._raw[tubes].clamp(min=1e-12)
            self._misses += float(surprise.square().sum())
            self._missed += len(tubes)
        self.known += tubes
        self._values = torch.cat([self._values, values])
        self._fit()
        self._kernel = self._make_kernel()

    def _fit(self) -> None:
        scale, unit, known = self._scale(), self._unit(), self.known
        rest = (self._values - self._prior[known]) / scale
        best = (-float("inf"), 0.0, 0.0)
        for nugget in NUGGETS:
            factor = self._factor(nugget)
            slope, miss = _solve(factor, torch.stack([unit[known], rest], 1)).unbind(1)
            size = float(factor.diagonal().log().sum())
            for spread in SPREADS:
                best = max(best, (_likelihood(slope, miss, size, spread), spread, nugget))
        _, self._spread, self._nugget = best
        factor = self._factor(self._nugget)
        slope, miss = _solve(factor, torch.stack([unit[known], rest], 1)).unbind(1)
        across = _solve(factor, self._kernel[known])
        left = unit - across.mT @ slope
        shift = float(slope @ miss / (self._spread + slope @ slope))  # the posterior mean of b - 1
        self.estimate = self._prior + scale * (shift * left + across.mT @ miss)
        variance = self._spread * ((1 + self._nugget) * self._kernel.diagonal() - across.square().sum(0))
        variance += left.square() / (1 + slope @ slope / self._spread)
        self._raw = scale * variance.clamp(min=1e-12).sqrt()
        self.error = self._raw * self.calibration
        self.estimate[known], self.error[known] = self._values, 0.0

    def _factor(self, nugget: float) -> Tensor:
        own = self._kernel[self.known][:, self.known]
        return torch.linalg.cholesky(own + (nugget * own.diagonal() + 1e-9).diag())

    def _make_kernel(self) -> Tensor:
        """D K D with the mean 1 on its diagonal."""
        size = self.estimate.abs()
        root = (FLOOR + size / (self._mean(size) or 1.0)).sqrt()
        kernel = self._overlaps * torch.outer(root, root)
        return kernel / max(self._mean(kernel.diagonal()), 1e-300)

    def _unit(self) -> Tensor:
        return self._prior / self._scale()

    def _scale(self) -> float:
        """Of the scores: the prior's root mean square, or that of the answers where the prior has none."""
        return (
            self._mean(self._prior.square()) ** 0.5
            or float(self._values.square().sum() / max(len(self.known), 1)) ** 0.5
            or 1.0
        )

    def _mean(self, values: Tensor) -> float:
        return float((values * self.counts).sum() / self.counts.sum())


def choose(regressions: Sequence[Regression], count: int) -> list[int]:
    """The next tubes to ask, at most `count`: those that lower the summed variance most, one after the other.

    `regressions` are of the targets of one clip, which share the tubes and the answers; each counts in units of its own
    prior scores.
    """
    taken, counts = list(regressions[0].known), regressions[0].counts
    plans = [_Plan(regression) for regression in regressions]
    chosen: list[int] = []
    for _ in range(min(count, len(counts) - len(taken))):
        gain = sum((plan.gains() for plan in plans), torch.zeros_like(counts))
        gain[taken + chosen] = -1.0
        chosen.append(int(gain.argmax()))
        for plan in plans:
            plan.add(chosen[-1])
    return chosen


class _Plan:
    """How a covariance C and the sums over j of counts_j C_ji^2 change with the tubes that are to be asked.

    C is left as it is, 5 MB for 784 tubes: the columns that are taken from it, C - sum of c c' / v, are kept beside it.
    """

    def __init__(self, regression: Regression) -> None:
        self._start, self._noise, self._counts = regression.covariance(), regression.noise, regression.counts
        self._variance = self._start.diagonal().clone()
        self._squares = torch.einsum("ij,ij,i->j", self._start, self._start, self._counts)
        self._columns: list[tuple[Tensor, Tensor]] = []

    def gains(self) -> Tensor:
        """By how much each tube's answer would lower the summed variance."""
        return self._squares / (self._variance + self._noise)

    def add(self, tube: int) -> None:
        """Conditions on a tube's answer, whatever it will be."""
        column = self._start[tube].clone()
        for earlier, variance in self._columns:
            column -= earlier * (earlier[tube] / variance)
        variance = self._variance[tube] + self._noise[tube]
        weighted = self._counts * column
        product = self._start @ weighted
        for earlier, other in self._columns:
            product -= earlier * (earlier @ weighted / other)
        share = column / variance
        self._squares += share * (share * (column @ weighted) - 2 * product)
        self._variance -= share * column
        self._columns.append((column, variance))


def agreement(scores: Tensor, errors: Tensor) -> Tensor:
    """(B,): Pearson's correlation of estimated scores (B, N) with the exact ones, as their errors (B, N) have it."""
    spread = (scores - scores.mean(1, keepdim=True)).square().sum(1)
    missed = errors.square().sum(1)
    return torch.where(missed == 0, torch.ones_like(spread), (spread / (spread + missed)).sqrt())


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """L^-1 of a matrix or a vector."""
    if right.ndim == 1:
        return torch.linalg.solve_triangular(factor, right.unsqueeze(1), upper=False).squeeze(1)
    return torch.linalg.solve_triangular(factor, right, upper=False)


def _likelihood(slope: Tensor, miss: Tensor, size: float, spread: float) -> float:
    """The logarithm of the marginal likelihood of C = spread A + u u', and of a wide prior on the spread.

    A = L L', `slope` L^-1 u, `miss` L^-1 of what is to be explained, `size` the logarithm of |L|.
    """
    both, own = float(slope @ miss), float(slope @ slope)
    fit = (float(miss @ miss) - both**2 / (spread + own)) / spread
    log = math.log(spread)
    volume = 0.5 * len(miss) * log + size + 0.5 * math.log(1 + own / spread)
    return -0.5 * fit - volume - 0.5 * (log / 1.5) ** 2
