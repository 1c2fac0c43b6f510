from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor

from aosa_fast.kernels import reference
from aosa_fast.kernels.partners import select_partners
from aosa_fast.kernels.tracking import track_anchors
from track_cases import PARTNERS, translation, walks


@pytest.mark.parametrize(("tracks", "K", "min_motion"), PARTNERS)
def test_matches_the_reference(tracks: Tensor, K: int, min_motion: float) -> None:
    N = tracks.shape[1]
    members = select_partners(tracks, K, min_motion)
    assert members.dtype == torch.int32
    assert members.shape == (*tracks.shape[:2], K + 1)
    assert torch.equal(members, reference.select_partners(tracks, K, min_motion))
    assert (members[:, :, 0] == torch.arange(N)).all()
    assert (members[:, :, 1:] != torch.arange(N)[:, None]).all()  # never itself
    used = min(K, N - 1) + 1
    assert ((members[:, :, :used] >= 0) & (members[:, :, :used] < N)).all()
    assert (members[:, :, used:] == -1).all()
    assert all(len(set(row[:used])) == used for row in members.flatten(0, 1).tolist())


def test_a_static_clip_by_hand() -> None:
    tracks, _ = track_anchors(torch.zeros(1, 3, 12, 12, 2), 4)
    # 0 1 2    All cosines are 0: the nearest, then the lower index.
    # 3 4 5
    # 6 7 8
    expected = [
        [0, 1, 3, 4],
        [1, 0, 2, 4],
        [2, 1, 5, 4],
        [3, 0, 4, 6],
        [4, 1, 3, 5],
        [5, 2, 4, 8],
        [6, 3, 7, 4],
        [7, 4, 6, 8],
        [8, 5, 7, 4],
    ]
    assert select_partners(tracks, 3)[0].tolist() == expected


@pytest.mark.parametrize("velocity", [(0.37, -0.21), (1 / 3, 0.0), (-0.07, 0.9)])
def test_a_uniform_translation_chooses_by_nearness(velocity: tuple[float, float]) -> None:
    static, moved = translation(0.0, 0.0), translation(*velocity)
    # The displacements differ in their last bits, the cosines do not after rounding to float32.
    assert len(moved.diff(dim=2)[..., 0].unique()) > 1
    assert torch.equal(select_partners(moved, 3), select_partners(static, 3))


def test_opposite_motions_come_after_those_at_rest() -> None:
    places = torch.tensor([[0.0, 0.0], [9.0, 0.0], [3.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    motions = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    tracks = torch.stack([places, places + motions, places + 2 * motions], dim=1)[None]
    # Of 0: the same motion though far; at right angles and at rest, both Co = 0, by distance; the opposite though near.
    assert select_partners(tracks, 4)[0, 0].tolist() == [0, 1, 4, 2, 3]
    assert select_partners(tracks, 4)[0, 3].tolist() == [3, 4, 2, 0, 1]
    assert select_partners(tracks, 4)[0, 2].tolist() == [2, 4, 3, 0, 1]


def test_speed_does_not_matter_but_timing_does() -> None:
    path = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    late = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    tracks = torch.stack([path, late + 1, path * 5 + 50, path * 0.01 + 90])[None]
    assert select_partners(tracks, 3)[0, 0].tolist() == [0, 2, 3, 1]


def test_min_motion_by_hand() -> None:
    out_and_back = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    jitter = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])  # reach 2, along y
    upward = torch.tensor([[50.0, 0.0], [50.0, 5.0], [50.0, 10.0]])
    tracks = torch.stack([out_and_back, jitter, upward])[None]
    assert select_partners(tracks, 1)[0].tolist() == [[0, 1], [1, 2], [2, 1]]
    # At its limit an anchor still counts as static, and chooses the nearest; it can be chosen all the same.
    assert select_partners(tracks, 1, 2.0)[0].tolist() == [[0, 1], [1, 0], [2, 1]]
    assert select_partners(tracks, 1, 1.99)[0].tolist() == [[0, 1], [1, 2], [2, 1]]
    # By default the smallest motion counts.
    assert select_partners(tracks / 100, 1)[0].tolist() == [[0, 1], [1, 2], [2, 1]]
    # The reach is the farthest from the start, not the last place.
    turning = torch.stack([out_and_back, jitter, out_and_back + 60])[None]
    assert select_partners(turning, 1, 2.9)[0].tolist() == [[0, 2], [1, 0], [2, 0]]
    assert select_partners(turning, 1, 3.0)[0].tolist() == [[0, 1], [1, 0], [2, 1]]


def test_permuting_the_anchors_permutes_the_result() -> None:
    tracks = walks(1, 80, 7)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(1))
    members = select_partners(tracks, 4)[0].long()
    permuted = select_partners(tracks[:, order], 4)[0].long()
    assert torch.equal(order[permuted], members[order])


def test_clips_do_not_mix() -> None:
    tracks = walks(3, 25, 6)
    together = select_partners(tracks, 3)
    assert not torch.equal(together[0], together[1])
    for b in range(3):
        assert torch.equal(select_partners(tracks[b : b + 1], 3)[0], together[b])


def test_refuses() -> None:
    tracks = torch.zeros(1, 3, 4, 2)
    for shape in ((3, 4, 2), (1, 3, 4, 3)):
        with pytest.raises(ValueError, match=r"tracks must have shape \(B, N, T, 2\).*; got " + re.escape(str(shape))):
            select_partners(torch.zeros(shape), 1)
    with pytest.raises(TypeError, match=r"tracks must be torch\.float32; got torch\.float64"):
        select_partners(tracks.double(), 1)
    with pytest.raises(ValueError, match="partners must be at least 0; got -1"):
        select_partners(tracks, -1)
    for value in (-0.5, float("nan")):
        with pytest.raises(ValueError, match=f"min_motion must be at least 0; got {value}"):
            select_partners(tracks, 1, value)
