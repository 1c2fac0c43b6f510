"""Maps against clips that are rendered again without a part: three squares, of which a network counts the red ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from aosa_fast import Config, explain
from aosa_fast.data.dataset import Clip, Dataset, Part, Sample
from aosa_fast.evaluation import Settings, evaluate, parse_entries, write_results
from aosa_fast.models import Classifier, Preprocessing

PREPROCESSING = Preprocessing(frames=4, stride=1, size=20, crop=(20, 20), mean=(0, 0, 0), std=(1, 1, 1))
COLOURS = {"red": (250, 0, 0), "brown": (160, 30, 0), "blue": (0, 0, 250)}


class Redness(nn.Module):
    """Its probability of "red" grows with the red of the clip, by `gain`, and less where it moves not."""

    def __init__(self, gain: float = 40.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, video: torch.Tensor) -> torch.Tensor:
        red = video[:, 0]
        moved = (red[:, 1:] - red[:, :-1]).abs().mean((1, 2, 3))
        score = self.gain * (red.mean((1, 2, 3)) + moved) - 4
        return torch.stack([score, torch.zeros_like(score)], 1)


@dataclass(frozen=True, eq=False)
class Squares(Dataset):
    """Squares of the colours, which walk to the right but for the blue one."""

    colours: tuple[str, ...] = tuple(COLOURS)

    def read(self, sample: Sample, preprocessing: Preprocessing) -> Clip:
        frames, region = self.render()
        parts = [
            Part(name, region == i, self.render(without=i)[0], None if name == "blue" else self.render(still=i)[0])
            for i, name in enumerate(self.colours)
        ]
        return Clip(frames, None, np.arange(4), parts=lambda: parts)

    def render(self, without: int = -1, still: int = -1) -> tuple[np.ndarray, np.ndarray]:
        frames, region = np.zeros((4, 20, 20, 3), np.uint8), np.full((4, 20, 20), -1)
        for i, name in enumerate(self.colours):
            for t in range(4):
                x = 2 if name == "blue" or i == still else 2 + 3 * t
                place = t, slice(1 + 6 * i, 6 + 6 * i), slice(x, x + 5)
                if i != without:
                    frames[place], region[place] = COLOURS[name], i
        return frames, region


def squares(colours: tuple[str, ...] = tuple(COLOURS)) -> Squares:
    return Squares("squares", ("red", "other"), (Sample("0", None, 0),), colours=colours)


def classifier(gain: float = 40.0) -> Classifier:
    return Classifier(Redness(gain).eval(), PREPROCESSING, ("red", "other"))


def run(out, methods, data=None, gain=40.0):
    entries = parse_entries(methods, Config(stride=5, box=6))
    return evaluate(data or squares(), classifier(gain), entries, out, Settings(metrics=("object-importance",)))


def test_the_map_of_each_part_against_the_drop_without_it(tmp_path):
    found = run(tmp_path, ["input-x-gradient", "random"])
    data, network = squares(), Redness().eval()
    clip = data.read(data.samples[0], PREPROCESSING)

    def probability(frames: np.ndarray) -> float:
        return network(PREPROCESSING.to_input(frames)).softmax(-1)[0, 0].item()

    whole, parts = probability(clip.frames), clip.parts()
    drops = [whole - probability(part.absent) for part in parts]
    stops = [whole - probability(part.stopped) for part in parts[:2]]
    assert drops[0] > drops[1] > 0.05 > abs(drops[2])
    for row in found.rows:
        pictures = torch.from_numpy(clip.frames[None])
        saliency = explain(classifier(), pictures, 0, method=row["method"]).saliency[0].numpy()
        masses = [float(saliency[part.region].sum()) for part in parts]
        assert row["parts"] == ["red", "brown", "blue"]
        assert row["part_mass"] == pytest.approx(masses, rel=1e-4)
        assert row["part_drop"] == pytest.approx(drops, abs=1e-5)
        assert row["part_stopped"] == [*(pytest.approx(value, abs=1e-5) for value in stops), None]
        assert row["importance_pearson"] == pytest.approx(np.corrcoef(masses, drops)[0, 1], abs=1e-4)
        ranks = [np.argsort(np.argsort(values)) for values in (masses, drops)]
        assert row["importance_rank"] == pytest.approx(np.corrcoef(*ranks)[0, 1])
        assert row["importance_top"] == (np.argmax(masses) == 0)
        assert row["importance_stopped"] == pytest.approx(np.sign((masses[0] - masses[1]) * (stops[0] - stops[1])))
    assert found.rows[0]["importance_pearson"] > 0.9
    table = write_results(found, tmp_path, "c")["table"].read_text()
    assert "| Object importance (Pearson) ↑ |" in table


@pytest.mark.parametrize(
    ("methods", "data", "gain"),
    [
        (["random"], squares(("red",)), 40.0),  # nothing to compare it with
        (["random"], squares(), 0.1),  # no part is worth .05
        (["gradient"], squares(("blue", "blue")), 40.0),  # all drops are 0
    ],
    ids=["one part", "small drops", "equal drops"],
)
def test_no_value_where_the_truth_says_nothing(tmp_path, methods, data, gain):
    (row,) = run(tmp_path, methods, data, gain).rows
    assert len(row["part_drop"]) == len(data.colours)
    assert not {key for key in row if key.startswith("importance_")}
