"""The Triton twin of the choice of partners, in the interpreter: the CPU's members."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from track_cases import PARTNERS, grid_walks, walks

pytest.importorskip("triton")

from aosa_fast.kernels import partners, partners_triton, reference


def select_partners(tracks: Tensor, K: int, min_motion: float = 0.0) -> Tensor:
    return partners_triton.select_partners(tracks, K, min_motion)


def launch(B: int, N: int, T: int, K: int, min_motion: float = 0.0) -> Any:
    return select_partners(torch.zeros(B, N, T, 2), K, min_motion)


# What test_compile.py compiles.
LAUNCHES = {
    "paper": lambda: launch(1, 196, 16, 3),
    "dense": lambda: launch(1, 784, 16, 3),
    "slowfast": lambda: launch(2, 676, 32, 3, 2.0),
    "odd": lambda: launch(1, 7, 3, 2),
    "single": lambda: launch(1, 1, 1, 1),
    "large": lambda: launch(1, 4096, 32, 15),
    "most": lambda: launch(1, 530, 8, 31),
    "more": lambda: launch(1, 530, 8, 100),
}


@pytest.fixture
def tall_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes its time by the block; the result must not depend on their height."""
    monkeypatch.setattr(partners_triton, "ROWS", 64)


MORE = [
    pytest.param(grid_walks(57, 3), 31, 0.0, id="most-partners"),
    pytest.param(walks(1, 20, 3), 40, 0.0, id="many-padded"),
]


@pytest.mark.usefixtures("tall_blocks")
@pytest.mark.parametrize(("tracks", "K", "min_motion"), PARTNERS + MORE)
def test_equals_the_cpu_and_the_reference(tracks: Tensor, K: int, min_motion: float) -> None:
    members = select_partners(tracks, K, min_motion)
    assert members.dtype == torch.int32
    assert torch.equal(members, partners.select_partners(tracks, K, min_motion))
    if tracks.shape[1] <= 200:
        assert torch.equal(members, reference.select_partners(tracks, K, min_motion))


@pytest.mark.parametrize(("B", "N", "T", "K"), [(1, 132, 2, 1), (2, 14, 3, 4)])
def test_the_blocks_that_ship_equal_the_cpu(B: int, N: int, T: int, K: int) -> None:
    tracks = walks(B, N, T)
    expected = partners.select_partners(tracks, K)
    assert len(expected[0, :, 1].unique()) > 5
    assert torch.equal(select_partners(tracks, K), expected)


@pytest.mark.usefixtures("tall_blocks")
@pytest.mark.parametrize("seed", range(4))
def test_random_walks_equal_the_cpus(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    N, T, K = (int(torch.randint(low, high, (), generator=generator)) for low, high in ((2, 200), (1, 12), (1, 6)))
    for tracks in (walks(1, N, T, seed), grid_walks(N, T, seed)):
        # Motions from 1e-20 to 1e3 pixels: the norms differ by as much as they may.
        steps = tracks.diff(dim=2) * 10 ** (torch.rand(1, N, 1, 1, generator=generator) * 23 - 20)
        rough = torch.cat([tracks[:, :, :1] * 0, steps], dim=2).cumsum(2)
        for moved in (tracks, rough):
            assert torch.equal(select_partners(moved, K), partners.select_partners(moved, K))


@pytest.mark.usefixtures("tall_blocks")
def test_every_rounding_is_the_cpus() -> None:
    # Three motions at right angles in each of 24 clips: what is left of their cosines are roundings, and they decide.
    B = 24
    halves = torch.randint(-999, 999, (B, 2, 4), generator=torch.Generator().manual_seed(0)) / 64
    p, q = halves.unbind(1)
    turned = torch.cat([-p[:, 2:], p[:, :2], q[:, 2:], -q[:, :2]], dim=1)
    steps = torch.stack([torch.cat([p, q], dim=1), torch.cat([-q, p], dim=1), turned], dim=1).reshape(B, 3, 4, 2)
    tracks = torch.cat([torch.zeros(B, 3, 1, 2), steps], dim=2).cumsum(2)
    members, expected = select_partners(tracks, 1), partners.select_partners(tracks, 1)
    assert (reference.cooccurrence(tracks).abs() > 1e-9).sum() == 3 * B  # of all with themselves
    assert 4 < (expected[:, 0, 1] == 2).sum() < B - 4
    assert torch.equal(members, expected)


@pytest.mark.usefixtures("tall_blocks")
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("T", [1, 4])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_tracks_that_are_not_finite_end_and_change_no_other(T: int, value: float) -> None:
    tracks = walks(1, 20, T)
    tracks[:, -1] = value
    members = select_partners(tracks, 3)
    assert torch.equal(members[:, :-1], select_partners(tracks[:, :-1], 3))
    assert ((members >= -1) & (members < 20)).all()


@pytest.mark.usefixtures("tall_blocks")
def test_nearness_is_compared_in_float64() -> None:
    # Squared distances 1e6 and 1e6 + 2**-14, which is no float32.
    starts = torch.tensor([[1000.0, 2.0**-7], [0.0, 0.0], [1000.0, 0.0]])
    tracks = starts[None, :, None].expand(1, 3, 4, 2)
    assert select_partners(tracks, 2)[0].tolist() == [[0, 2, 1], [1, 2, 0], [2, 0, 1]]


@pytest.mark.usefixtures("tall_blocks")
def test_min_motion_is_compared_in_float64() -> None:
    places = torch.tensor([0.0, 1.0, 9.0])[:, None] * torch.tensor([0.0, 1.0])
    motion = torch.tensor([[0.1, 0.0], [0.0, 1.0], [1.0, 0.0]])
    tracks = torch.stack([places, places + motion], dim=1)[None]
    reach = motion[0, 0].item()  # the float32 next to 0.1, as a float64
    for limit, partner in ((reach, 1), (reach * (1 - 2**-50), 2)):
        assert select_partners(tracks, 1, limit)[0, 0].tolist() == [0, partner]
        assert torch.equal(select_partners(tracks, 1, limit), partners.select_partners(tracks, 1, limit))


@pytest.mark.usefixtures("tall_blocks")
def test_other_memory_orders_single_clips_and_again() -> None:
    tracks = walks(3, 25, 4)
    members = select_partners(tracks, 3)
    assert torch.equal(members, select_partners(tracks, 3))
    turned = tracks.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
    assert not turned.is_contiguous()
    assert torch.equal(members, select_partners(turned, 3))
    assert not torch.equal(members[0], members[1])
    for b in range(3):
        assert torch.equal(select_partners(tracks[b : b + 1], 3)[0], members[b])


def test_nothing_to_choose() -> None:
    assert select_partners(torch.zeros(0, 4, 3, 2), 2).shape == (0, 4, 3)
    assert select_partners(torch.zeros(1, 0, 3, 2), 2).shape == (1, 0, 3)
    assert select_partners(torch.zeros(2, 3, 3, 2), 0).tolist() == [[[0], [1], [2]]] * 2
