from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from aosa_fast.errors import InputError
from aosa_fast.evaluation.bootstrap import Estimate, curve_intervals, interval, rate_interval

NAN = math.nan


def close(estimate: Estimate, reference: Any) -> None:
    """The ends agree within the noise of 10,000 resamples, a standard deviation of 2 % of the half width for both."""
    low, high = reference.confidence_interval
    half = (high - low) / 2
    assert abs(estimate.low - low) < 0.1 * half
    assert abs(estimate.high - high) < 0.1 * half


@pytest.mark.parametrize("clips", [37, 1000])  # so many that they are drawn in parts
def test_mean_as_scipy(clips: int) -> None:
    values = np.random.default_rng(1).exponential(size=clips)
    mine = interval(values, resamples=10_000, seed=3)
    theirs = scipy.stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=5, batch=500)
    assert mine.mean == pytest.approx(values.mean(), rel=1e-12)
    assert mine.n == clips
    close(mine, theirs)


def test_ratio_as_scipy() -> None:
    rng = np.random.default_rng(2)
    frames = rng.integers(1, 30, 60).astype(float)
    hits = rng.binomial(frames.astype(int), rng.beta(2, 1, 60)).astype(float)
    mine = rate_interval(hits, frames, resamples=10_000)
    theirs = scipy.stats.bootstrap(
        (hits, frames), lambda h, f, axis: h.sum(axis) / f.sum(axis), paired=True, n_resamples=10_000,
        method="percentile", rng=5,
    )  # fmt: skip
    assert mine.mean == pytest.approx(hits.sum() / frames.sum(), rel=1e-12)
    close(mine, theirs)


def test_macro_is_the_mean_of_the_classes_rates_as_scipy() -> None:
    rng = np.random.default_rng(4)
    frames = rng.integers(1, 30, 45).astype(float)
    labels = np.array(["a"] * 30 + ["b"] * 15)
    order = rng.permutation(45)
    hits = rng.binomial(frames.astype(int), np.where(labels == "a", 0.9, 0.3)).astype(float)
    mine = rate_interval(hits[order], frames[order], labels[order], resamples=10_000)
    a, b = labels == "a", labels == "b"
    assert mine.mean == pytest.approx((hits[a].sum() / frames[a].sum() + hits[b].sum() / frames[b].sum()) / 2)
    assert mine.n == 45
    # Indices of clips, so that hits and frames are drawn together, from each class by itself.
    theirs = scipy.stats.bootstrap(
        (np.arange(30), np.arange(30, 45)),
        lambda i, j, axis: (hits[i].sum(axis) / frames[i].sum(axis) + hits[j].sum(axis) / frames[j].sum(axis)) / 2,
        n_resamples=10_000, method="percentile", rng=5,
    )  # fmt: skip
    close(mine, theirs)


def test_macro_by_hand() -> None:
    # 3/4 and 1/10, of unequal numbers of clips; a class without frames has no rate.
    hits, frames = [2, 1, 1, 0], [2, 2, 10, 0]
    estimate = rate_interval(hits, frames, [7, 7, 8, 9])
    assert estimate.mean == pytest.approx((0.75 + 0.1) / 2)
    assert estimate.n == 3
    # Of class 7 a draw has 2, 3 or 4 hits of 4; class 8 has one clip, which does not vary.
    assert (estimate.low, estimate.high) == pytest.approx(((0.5 + 0.1) / 2, (1 + 0.1) / 2))


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    covered = rates = frames_alone = 0
    for trial in range(300):
        found = interval(rng.normal(2, 1, 40), resamples=400, seed=trial)
        covered += found.low <= 2 <= found.high
        # Frames of a clip hit or miss together, half of the clips each.
        frames = rng.integers(5, 15, 40).astype(float)
        hits = frames * (rng.random(40) < 0.5)
        rate = rate_interval(hits, frames, resamples=400, seed=trial)
        rates += rate.low <= 0.5 <= rate.high
        p = hits.sum() / frames.sum()
        frames_alone += abs(p - 0.5) <= 1.96 * math.sqrt(p * (1 - p) / frames.sum())
    # Percentile intervals of 40 are a little short: 93 % of 300 has a standard deviation of 1.5 %.
    assert 0.90 <= covered / 300 <= 0.98
    assert 0.90 <= rates / 300 <= 0.98
    assert frames_alone / 300 < 0.6


def test_missing_values_are_left_out_and_counted() -> None:
    values = np.array([0.1, NAN, 0.5, 0.3, NAN])
    assert interval(values) == interval(values[[0, 2, 3]])
    assert interval(values).n == 3
    assert rate_interval([1, NAN, 5, 2], [2, 3, 0, NAN]) == Estimate(0.5, 0.5, 0.5, 1)
    assert rate_interval([1, NAN, 4], [2, 2, 4], ["a", "a", "b"]).mean == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize(
    "estimate",
    [
        interval([]),
        interval([NAN, NAN]),
        rate_interval([1], [0]),
        rate_interval([], [], []),
        rate_interval([0, NAN], [0, 2], ["a", "b"]),
    ],
    ids=["empty", "nan", "no frames", "no classes", "classes without frames"],
)
def test_nothing_gives_nan(estimate: Estimate) -> None:
    assert estimate.n == 0
    assert np.isnan([estimate.mean, estimate.low, estimate.high]).all()
    assert str(estimate) == "-"
    assert not estimate.excludes_zero


def test_one_clip_has_no_interval() -> None:
    for estimate in (interval([0.4]), rate_interval([2], [5]), rate_interval([2], [5], ["a"])):
        assert estimate == Estimate(0.4, 0.4, 0.4, 1)
        assert str(estimate) == "0.400"
        assert not estimate.excludes_zero


def test_too_few_clips_claim_nothing() -> None:
    assert not interval([0.5] * 5).excludes_zero
    assert interval([0.5] * 6).excludes_zero
    assert interval([-0.5, -0.4] * 3).excludes_zero
    assert not interval([-0.5, 0.5] * 30).excludes_zero


def test_equal_arguments_give_equal_estimates_and_seeds_matter() -> None:
    values = np.random.default_rng(6).random(50)
    labels = np.arange(50) % 7
    frames = np.full(50, 3.0)
    assert interval(values) == interval(values.tolist())
    assert interval(values).low != interval(values, seed=1).low
    assert rate_interval(values, frames, labels) == rate_interval(values, frames, labels)
    assert rate_interval(values, frames, labels).low != rate_interval(values, frames, labels, seed=1).low


def test_classes_do_not_draw_the_same_clips() -> None:
    # With the same draws in both classes, one would cancel the other: no width at all.
    hits = np.concatenate([np.arange(20) % 2, 1 - np.arange(20) % 2])
    estimate = rate_interval(hits, np.ones(40), np.repeat(["a", "b"], 20))
    assert estimate.mean == pytest.approx(0.5)
    assert estimate.half > 0.08


def test_curves_point_by_point() -> None:
    curves = np.random.default_rng(8).random((40, 5)) * [1, 2, 3, 4, 0]
    mean, low, high = curve_intervals(curves)
    assert np.allclose(mean, curves.mean(0))
    for s in range(5):
        point = interval(curves[:, s])
        assert (low[s], high[s]) == pytest.approx((point.low, point.high), abs=1e-12)
    one = curve_intervals(curves[:1])
    assert all(np.array_equal(part, curves[0]) for part in one)


@pytest.mark.parametrize(
    ("estimate", "text"),
    [
        (Estimate(0.4891, 0.477, 0.501, 9), "0.489 ± 0.012"),
        (Estimate(0.4891, 0.377, 0.601, 9), "0.49 ± 0.11"),
        (Estimate(18.7061, 18.4, 19.0, 9), "18.71 ± 0.30"),
        (Estimate(1234.5, 1180, 1290, 9), "1234 ± 55"),
        (Estimate(0.00213, 0.0021, 0.00216, 9), "0.002130 ± 0.000030"),
        (Estimate(2.13e-5, 2.1e-5, 2.2e-5, 9), "2.13e-05 ± 5.0e-07"),
        (Estimate(1.0, 1.0, 1.0, 9), "1.00 ± 0.00"),
        (Estimate(0.0, 0.0, 0.0, 9), "0.000 ± 0.000"),
        (Estimate(-0.25, -0.27, -0.25, 9), "-0.250 ± 0.010"),
    ],
)
def test_written_with_two_digits_of_the_interval(estimate: Estimate, text: str) -> None:
    assert str(estimate) == text


def test_written_for_tables() -> None:
    estimate = Estimate(0.4891, 0.377, 0.601, 9)
    assert estimate.text(3) == "0.489 ± 0.112"
    assert estimate.text(3, sign=True) == "+0.489 ± 0.112"
    assert Estimate(-0.0001, -0.01, 0.01, 9).text(3, sign=True) == "0.000 ± 0.010"
    assert Estimate(0.5, 0.5, 0.5, 1).text(3, sign=True) == "+0.500"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval([[1.0]]), "values must have shape (n,); got (1, 1)"),
        (lambda: interval([1.0, math.inf]), "values must be finite"),
        (lambda: rate_interval([1.0, 2], [1]), "frames must have shape (2,); got (1,)"),
        (lambda: rate_interval([1.0], [-1]), "frames must be at least 0; got -1.0"),
        (lambda: rate_interval([1.0, 2], [1, 2], ["a"]), "labels must have shape (2,), one per clip; got (1,)"),
        (lambda: interval([1.0, 2], resamples=0), "resamples must be at least 1; got 0"),
        (lambda: curve_intervals([[1.0, NAN]]), "curves must be finite and have shape (n, S)"),
        (lambda: curve_intervals(np.zeros((0, 3))), "curves must be finite and have shape (n, S)"),
    ],
)
def test_bad_arguments_are_named(call: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
