"""Models and data sets of other packages and of users: entry points and python:PACKAGE.MODULE:FUNCTION."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from foreign_packages import installed

from aosa_fast import InputError, list_models
from aosa_fast.data import Dataset, list_datasets, open_dataset
from aosa_fast.models import load
from aosa_fast.models.loading import runs_code

MINE = """
from aosa_fast.data.dataset import Dataset, Sample
from aosa_fast.data.registry import DataKind
from small_nets import make_net
from aosa_fast.models.classifier import KINETICS, Classifier
from aosa_fast.models.registry import ModelFamily

def clips(name="mine", split=None):
    return Dataset(f"{name} {split}", None, (Sample("a", "a.mp4", 0),))

def three():
    return 3

def network(spec, rest):
    return Classifier(make_net(int(rest)), KINETICS)

KIND = DataKind("own", "own:NAME", "My clips.", "others_data:clips", takes=("split",), root="NAME what they are called")
FAMILY = ModelFamily("own", "own:CLASSES", "My networks.", "others_data:network", runs_code=False)
"""
POINTS = """[aosa_fast.models]
own = others_data:FAMILY
broken = others_data:NOTHING
[aosa_fast.datasets]
own = others_data:KIND
broken = nowhere:KIND
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with installed(tmp_path, monkeypatch, "others_data", MINE, POINTS):
        yield


def test_a_package_brings_models_and_data(mine):
    assert (list_models()[-2:], list_datasets()[-2:]) == (["own", "broken"], ["own", "broken"])
    assert load("own:4").network[-1].out_features == 4
    assert not runs_code("own:4")
    assert open_dataset("own:holiday", split="train").name == "holiday train"
    assert len(load("demo").class_names) == 6  # a broken one stops nobody


def test_a_users_function_gives_the_data(mine):
    found = open_dataset("python:others_data:clips")
    assert isinstance(found, Dataset)
    assert found.name == "mine None"


@pytest.mark.parametrize(
    ("open_it", "given", "message"),
    [
        (open_dataset, "own", "data must be own:NAME, NAME what they are called; got own"),
        (
            open_dataset,
            "broken:x",
            "data=broken must be an importable DataKind, nowhere:KIND; it raised ModuleNotFoundError: ",
        ),
        (open_dataset, "python:others_data:three", "data=python:others_data:three must return a Dataset; got int"),
        (
            open_dataset,
            "python:others_data:none",
            "data=python:others_data:none must be an importable function without arguments that works; ",
        ),
        (open_dataset, "python", "data must be python:PACKAGE.MODULE:FUNCTION, PACKAGE.MODULE:FUNCTION a function "),
        (
            open_dataset,
            "renderd",
            r"data must be rendered\[:SEED\].*, which does not exist \(did you mean rendered\?\)$",
        ),
        (load, "own", "model must be one of demo, "),
        (
            load,
            "broken:x",
            "model=broken must be an importable ModelFamily, others_data:NOTHING; it raised AttributeError: ",
        ),
        (load, "torchvison:r3d_18", r"got torchvison:r3d_18 \(did you mean torchvision"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(mine, open_it, given, message):
    with pytest.raises(InputError, match=message) as caught:
        open_it(given)
    assert "\n" not in str(caught.value)
