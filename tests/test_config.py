from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from aosa_fast import Config, InputError
from aosa_fast.config import AGGREGATES, COMPATS, FILLS, FLOWS, METHODS, PARTNER_RULES, RELUS, SCORES

CHOICES = {
    "method": METHODS, "score": SCORES, "fill": FILLS, "relu": RELUS, "aggregate": AGGREGATES, "flow": FLOWS,
    "partners_rule": PARTNER_RULES,
}  # fmt: skip
LEAST = {
    "stride": 1, "box": 1, "partners": 0, "radius": 0, "samples": 0, "reseed": 0, "steps": 1, "batch_size": 0,
    "check": 0, "seed": 0,
}  # fmt: skip


def refused(**options: object) -> str:
    with pytest.raises(InputError) as caught:
        Config(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_defaults_are_the_papers():
    plain = Config().as_dict()
    assert plain.pop("min_motion") == 2.0
    assert plain == {
        "method": "aosa-approx", "stride": 8, "box": [16, 16], "partners": 3, "partners_rule": "cosine",
        "fill": "conditional", "radius": 4, "samples": 0, "score": "prob", "relu": "element", "aggregate": "sum",
        "flow": "farneback", "reseed": 0, "steps": 8, "batch_size": 0, "dtype": None, "check": 0, "seed": 0,
        "compat": None,
    }  # fmt: skip
    json.dumps(plain)
    assert {method: Config(method=method).fill_name for method in METHODS} == {
        "aosa": "mean",
        "aosa-approx": "conditional",
        "aosa-path": "mean",
    }


def test_every_field_says_what_it_is_for():
    for item in dataclasses.fields(Config):
        assert item.metadata["help"].strip().endswith("."), item.name
    assert {item.name for item in dataclasses.fields(Config) if item.metadata["choices"]} == {
        *CHOICES,
        "compat",
        "dtype",
    }


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name):
    for value in CHOICES[name]:
        assert getattr(Config(**{name: value}), name) == value
    assert refused(**{name: "nonsense"}) == f"{name} must be one of {', '.join(CHOICES[name])}; got nonsense"
    assert refused(**{name: 3}) == f"{name} must be one of {', '.join(CHOICES[name])}; got 3"


@pytest.mark.parametrize("name", [name for name in CHOICES if name != "fill"])
@pytest.mark.parametrize("value", [None, torch.zeros(2)], ids=["None", "tensor"])
def test_only_the_fill_may_be_none_or_a_tensor(name, value):
    assert refused(**{name: value}).startswith(f"{name} must be ")


def test_compat():
    assert Config(compat="authors2022").compat == "authors2022"
    assert refused(compat="authors") == f"compat must be one of {', '.join(COMPATS)}; got authors"
    assert refused(compat="authors2022", method="aosa-path").startswith("compat must be unset for method aosa-path")


@pytest.mark.parametrize("name", LEAST)
def test_whole_numbers(name):
    least = LEAST[name]
    if name != "samples":
        assert getattr(Config(**{name: least}), name) == least
    assert refused(**{name: least - 1}) == f"{name} must be at least {least}; got {least - 1}"
    for value in (2.5, "3", True, None):
        assert refused(**{name: value}) == f"{name} must be a whole number; got {value!r}"


def test_min_motion_may_be_a_fraction():
    assert Config(min_motion=0).min_motion == 0
    assert Config(min_motion=1.5).min_motion == 1.5
    assert refused(min_motion=-0.1) == "min_motion must be at least 0; got -0.1"
    assert refused(min_motion=float("nan")) == "min_motion must be at least 0; got nan"
    assert refused(min_motion="2").startswith("min_motion must be a ")


def test_box_is_a_side_or_height_and_width():
    assert Config(box=(5, 7)).box_size == (5, 7)
    assert Config(box=9).box_size == (9, 9)
    for box in ((), (4,), (4, 5, 6)):
        assert refused(box=box) == f"box must be one side, or height and width; got {box}"
    assert refused(box=(4, 0)) == "box must be at least 1; got 0"
    assert refused(box=(4, 2.0)) == "box must be a whole number; got 2.0"


def test_samples_belong_to_the_conditional_fill_of_the_exact_method():
    assert Config(method="aosa", fill="conditional", samples=10).samples == 10
    rule = "samples must be 0 unless method is aosa and fill conditional; got samples=3, "
    assert refused(samples=3) == rule + "method=aosa-approx, fill=None"
    assert refused(samples=3, method="aosa") == rule + "method=aosa, fill=None"
    assert refused(samples=3, method="aosa", fill="blur") == rule + "method=aosa, fill=blur"
    assert refused(samples=3, fill="conditional") == rule + "method=aosa-approx, fill=conditional"
    assert refused(samples=3, method="aosa", fill=torch.zeros(3)).startswith(rule)


def test_is_frozen_and_knows_its_fields():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().stride = 4  # type: ignore[misc]
    with pytest.raises(TypeError, match="strid"):
        Config(strid=4)
    assert Config(fill=torch.zeros(3)).fill_name == "tensor"
    assert Config(fill=torch.zeros(3)).as_dict()["fill"] == "tensor"


@pytest.mark.parametrize("options", [{"reseed": 4}, {"partners_rule": "motion-aware"}, {"aggregate": "mean"}])
def test_compat_refuses_what_the_authors_do_not_have(options):
    with pytest.raises(InputError, match=r"^compat must come with reseed, partners_rule and aggregate"):
        Config(compat="authors2022", **options)
