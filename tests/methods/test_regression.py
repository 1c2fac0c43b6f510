"""The regression of exact scores against plain conditioning of the whole Gaussian."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aosa_fast.methods.regression import NUGGETS, SPREADS, Regression, agreement, choose


def make(count: int = 12, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First-order scores, overlaps, how many tubes each stands for, and exact scores."""
    draw = torch.Generator().manual_seed(seed)
    cover = torch.rand(count, 40, generator=draw, dtype=torch.float64) ** 3
    prior, miss = torch.randn(2, count, generator=draw, dtype=torch.float64)
    return prior, cover @ cover.T, torch.randint(1, 4, (count,), generator=draw).double(), 1.4 * prior + 0.3 * miss


def kernel(overlaps: Tensor, counts: Tensor, estimate: Tensor) -> Tensor:
    root = (0.3 + estimate.abs() / (estimate.abs() @ counts / counts.sum())).sqrt()
    scaled = root.diag() @ overlaps @ root.diag()
    return scaled / (scaled.diag() @ counts / counts.sum())


def condition(covariance: Tensor, known: list[int], noise: Tensor) -> tuple[Tensor, Tensor]:
    """What answers move, (U, M), and what they leave of the covariance."""
    across = covariance[:, known]
    inverse = torch.linalg.inv(covariance[known][:, known] + noise[known].diag())
    return across @ inverse, covariance - across @ inverse @ across.T


def plain(prior: Tensor, matrix: Tensor, scale: float, known: list[int], values: Tensor) -> tuple[Tensor, ...]:
    """The most likely spread and nugget, and the mean and variance that they give, b being integrated out."""
    unit, miss, best = prior / scale, (values - prior[known]) / scale, None
    for nugget in NUGGETS:
        for spread in SPREADS:
            covariance = spread * matrix + torch.outer(unit, unit)
            noise = spread * nugget * matrix.diag()
            own = covariance[known][:, known] + noise[known].diag()
            density = torch.distributions.MultivariateNormal(torch.zeros(len(known), dtype=torch.float64), own)
            found = float(density.log_prob(miss)) - 0.5 * (math.log(spread) / 1.5) ** 2
            if best is None or found > best[0]:
                moves, left = condition(covariance, known, noise)
                best = found, prior + scale * moves @ miss, scale**2 * (left.diag() + noise), spread, nugget
    return best[1:]


def test_matches_plain_conditioning_batch_by_batch() -> None:
    prior, overlaps, counts, exact = make()
    regression, scale = Regression(prior, overlaps, counts), float((prior.square() @ counts / counts.sum()).sqrt())
    assert regression.estimate.equal(prior)
    assert regression.error.isnan().all()
    estimate, known, squares = prior, [], []
    for batch in ([3, 7, 0], [5, 11], [1, 2, 4]):
        matrix = kernel(overlaps, counts, estimate)
        if known:
            squares += (((exact - estimate) / raw)[batch] ** 2).tolist()  # noqa: F821
        known = known + batch
        estimate, variance, spread, nugget = plain(prior, matrix, scale, known, exact[known])
        regression.tell(batch, exact[batch])
        raw, rest = variance.sqrt(), [i for i in range(12) if i not in known]
        torch.testing.assert_close(regression.estimate[rest], estimate[rest], rtol=1e-6, atol=1e-8)
        factor = max(1.0, math.sqrt((4 + sum(squares)) / (4 + len(squares))))
        torch.testing.assert_close(regression.error[rest], factor * raw[rest], rtol=1e-6, atol=1e-8)
        assert regression.estimate[known].equal(exact[known])
        assert not regression.error[known].any()
        estimate = regression.estimate
        matrix = kernel(overlaps, counts, estimate)
        noise = spread * nugget * matrix.diag()
        _, left = condition(spread * matrix + torch.outer(prior, prior) / scale**2, known, noise)
        torch.testing.assert_close(regression.covariance(), left, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("answered", [[], [3, 7, 0]])
def test_the_next_tubes_leave_the_least_variance(answered: list[int]) -> None:
    # Two targets, which count in units of their own prior: by trying every tube.
    first, overlaps, counts, exact = make()
    both = [Regression(first, overlaps, counts), Regression(100 * first.flip(0), overlaps, counts)]
    if answered:
        both[0].tell(answered, exact[answered])
        both[1].tell(answered, 90 * first.flip(0)[answered])
    covariances, chosen = [regression.covariance() for regression in both], []
    for _ in range(3):
        left = [
            torch.inf
            if i in answered + chosen
            else sum(
                float(condition(covariance, [i], regression.noise)[1].diag() @ counts)
                for covariance, regression in zip(covariances, both, strict=True)
            )
            for i in range(12)
        ]
        chosen.append(left.index(min(left)))
        covariances = [condition(c, chosen[-1:], r.noise)[1] for c, r in zip(covariances, both, strict=True)]
    assert choose(both, 3) == chosen
    assert sorted(choose(both, 99)) == [i for i in range(12) if i not in answered]


def test_a_prior_of_zeros_learns_from_the_answers() -> None:
    # As of a probability that is 1: its gradient vanishes, and the exact scores do not.
    _, overlaps, counts, exact = make()
    regression = Regression(torch.zeros_like(exact), overlaps, counts)
    regression.tell([2, 5], 1e-3 * exact[[2, 5]])
    assert regression.estimate.isfinite().all()
    assert 1e-5 < regression.error[0] < 1e-2


def test_agreement_by_hand() -> None:
    scores, errors = torch.tensor([[1.0, 3.0], [1.0, 3.0], [2.0, 2.0]]), torch.tensor([[0.0, 1.0], [0, 0], [1, 1]])
    assert agreement(scores, errors).tolist() == pytest.approx([(2 / 3) ** 0.5, 1.0, 0.0])
