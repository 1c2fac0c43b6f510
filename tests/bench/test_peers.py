from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aosa_fast.bench import peers
from aosa_fast.bench.check import MismatchError
from aosa_fast.bench.report import Report
from aosa_fast.bench.rows import read_rows

pytest.importorskip("pytorch_grad_cam")
pytest.importorskip("torchcam")


class Small(nn.Module):
    """With a last stage of the same name as R3D-50's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 4, 3, 4)
        self.blocks = nn.Sequential(*[nn.Identity()] * 15, nn.Sequential(nn.Conv3d(4, 8, 3, 2), nn.ReLU()))
        self.head = nn.Linear(8, 5)

    def forward(self, video: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(video)).mean((2, 3, 4)))
        return logits


def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_everybody_comes_to_our_answers_and_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    peers.check_answers(quick=True)
    monkeypatch.setattr(peers, "r3d50", small)
    dense = peers.dense_approx
    monkeypatch.setattr(peers, "dense_approx", lambda work, stride: dense(work, 8))  # at s=4 it takes 4 GB
    peers.peers(Report("peers", json=tmp_path / "run.json", quick=True), quick=True)
    rows = read_rows(tmp_path / "run.json")
    everybody = {row["case"] for row in rows if row["metric"] == "time"}
    assert {row["case"] for row in rows if row["metric"] == peers.RATIO} == everybody
    assert {name.partition(",")[0] for name in everybody} == {
        *("aosa_fast", "authors", "network"),
        *("Captum", "pytorch-grad-cam", "torchcam"),
    }
    beside = {row["metric"] for row in rows if row["metric"].startswith("time / aosa_fast")}
    assert beside == {f"time / {name}" for name in peers.PAIRS.values()}
    assert all(row["peak_mb"] is not None for row in rows if row["metric"] == "time")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_way_that_comes_to_another_answer_is_named(monkeypatch: pytest.MonkeyPatch):
    right = peers.dense_approx
    monkeypatch.setattr(peers, "dense_approx", lambda work, stride: right(work, stride).flip(1))
    with pytest.raises(MismatchError, match="authors, dense masks, s=8"):
        peers.check_answers(quick=True)
