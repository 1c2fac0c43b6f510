from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch

from aosa_fast import Config, InputError, list_methods
from aosa_fast.config import COMMON, own_options, read_choice
from aosa_fast.methods.registry import METHODS

OWN = own_options()
CHOICES = {name: option.choices for name, option in {**COMMON, **OWN}.items() if option.choices} | {"method": METHODS}
WITH_TUBES = ("aosa-approx", "aosa", "aosa-path", "aosa-dual", "motion-tubes")
LEAST = {
    "stride": 1, "box": 1, "partners": 0, "radius": 0, "samples": 0, "reseed": 0, "steps": 1, "batch_size": 0,
    "check": 0, "seed": 0, "noise_samples": 1, "cuboid_frames": 0, "cuboid_step": 1,
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
        "flow": "farneback", "reseed": 0, "steps": None, "batch_size": 0, "dtype": None, "check": 0, "seed": 0,
        "backward": "exact", "route": "auto", "compat": None,
        "layer": None, "cam_weights": "frame", "noise_samples": 25, "noise": 0.15, "areas": [0.1], "cuboid_area": 0.02,
        "cuboid_frames": 0, "cuboid_step": 2, "detail": "auto", "budget_ms": None,
    }  # fmt: skip
    json.dumps(plain)
    assert {method: Config(method=method).fill_name for method in METHODS} == {
        method: "conditional" if method == "aosa-approx" else "mean" for method in METHODS
    }


def test_what_is_left_open_is_the_methods_choice():
    scores = {method: Config(method=method).score_name for method in METHODS}
    assert scores == {method: "logit" if method in ("grad-cam", "legrad") else "prob" for method in METHODS}
    assert Config(method="grad-cam", score="margin").as_dict()["score"] == "margin"
    counts = {"aosa-path": 8, "aosa-dual": 9, "integrated-gradients": 50, "expected-gradients": 50, "step": 2000}
    for method in METHODS:
        assert Config(method=method).step_count == counts.get(method, 0)
        assert Config(method=method, steps=3).as_dict()["steps"] == 3
        assert Config(method=method).partner_count == (0 if method == "aosa-dual" else 3)
        assert Config(method=method, partners=1).as_dict()["partners"] == 1
        assert Config(method=method).record.has_tubes == (method in WITH_TUBES)


@pytest.mark.parametrize("areas", [(), (0.0,), (0.1, 1.0), [0.1], 0.1, "0.1", (float("nan"),), (True,), ("a",)])
def test_areas_are_shares(areas):
    assert refused(areas=areas).startswith("areas must be ")
    assert Config(areas=(0.05, 0.5)).as_dict()["areas"] == [0.05, 0.5]


def test_the_cuboids_area_is_a_share():
    assert Config(cuboid_area=1).cuboid_area == 1
    for area in (0, 1.5, -1, float("nan"), "0.02"):
        assert refused(cuboid_area=area).startswith("cuboid_area must be ")
    assert refused(noise=-0.5) == "noise must be at least 0; got -0.5"


def test_every_choice_and_every_method_says_what_it_is_for():
    for record in (*COMMON.values(), *OWN.values(), *METHODS.values()):
        assert record.help.strip().endswith("."), record.name
    assert list_methods() == list(METHODS)


@pytest.mark.parametrize("name", CHOICES)
def test_choices(name):
    for value in CHOICES[name]:
        assert getattr(Config(**{name: value}), name) == value
    assert refused(**{name: "nonsense"}) == f"{name} must be one of {', '.join(CHOICES[name])}; got nonsense"
    assert refused(**{name: 3}) == f"{name} must be one of {', '.join(CHOICES[name])}; got 3"


@pytest.mark.parametrize("name", [name for name in CHOICES if name not in ("fill", "score", "dtype", "compat")])
@pytest.mark.parametrize("value", [None, torch.zeros(2)], ids=["None", "tensor"])
def test_only_the_fill_may_be_none_or_a_tensor(name, value):
    assert refused(**{name: value}).startswith(f"{name} must be ")


def test_compat():
    assert Config(compat="authors2022").compat == "authors2022"
    for method in METHODS:
        if method not in ("aosa", "aosa-approx"):
            assert refused(compat="authors2022", method=method).startswith(f"compat must be unset for method {method}")


@pytest.mark.parametrize("name", LEAST)
def test_whole_numbers(name):
    least = LEAST[name]
    if name != "samples":
        assert getattr(Config(**{name: least}), name) == least
    assert refused(**{name: least - 1}) == f"{name} must be at least {least}; got {least - 1}"
    for value in (2.5, "3", True) if name in ("steps", "partners") else (2.5, "3", True, None):
        assert refused(**{name: value}) == f"{name} must be a whole number; got {value!r}"


@pytest.mark.parametrize("name", [*LEAST, "min_motion", "noise", "budget_ms", *CHOICES, "layer"])
def test_what_is_one_value_is_no_tuple(name):
    value = {**COMMON, **OWN}[name].default or 8
    assert refused(**{name: (value, value, value)}).startswith(f"{name} must be ")


def test_min_motion_may_be_a_fraction():
    assert Config(min_motion=0).min_motion == 0
    assert Config(min_motion=1.5).min_motion == 1.5
    assert refused(min_motion=-0.1) == "min_motion must be at least 0; got -0.1"
    assert refused(min_motion=float("nan")) == "min_motion must be at least 0; got nan"
    assert refused(min_motion="2") == "min_motion must be a number; got '2'"


def test_box_is_a_side_or_height_and_width():
    assert Config(box=(5, 7)).box_size == (5, 7)
    assert Config(box=9).box_size == (9, 9)
    for box in ((), (4,), (4, 5, 6)):
        assert refused(box=box) == f"box must be one side, or height and width; got {box}"
    assert refused(box=(4, 0)) == "box must be at least 1; got 0"
    assert refused(box=(4, 2.0)) == "box must be a whole number; got 2.0"


@pytest.mark.parametrize(
    ("text", "box"), [("16", 16), (" 16 ", 16), ("16x24", (16, 24)), ("16X24", (16, 24)), (" 16 x 24 ", (16, 24))]
)
def test_box_as_written(text, box):
    assert read_choice(COMMON["box"], text) == box


@pytest.mark.parametrize(
    "text", ["", "16 24", "1 6x24", "16x", "x16", "16,24", "16x24x8", "-3", "1e1", "1_6", "١٦", "16\n", "9" * 5000]
)
def test_box_that_is_none(text):
    with pytest.raises(InputError, match=r"^box must be a side or HEIGHTxWIDTH in pixels, such as 16 or 16x24; got "):
        read_choice(COMMON["box"], text)


def test_numbers_of_numpy_are_numbers():
    config = Config(box=[np.int64(4), np.uint8(5)], stride=np.int32(2), noise=np.float32(0.5), seed=2**70)
    assert config.box == (4, 5)
    json.dumps(config.as_dict())
    assert refused(stride=2**31) == "stride must be at most 2147483647; got 2147483648"
    assert refused(box=(4, 2**40)) == "box must be at most 2147483647; got 1099511627776"


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


def test_options_of_a_method_are_given_and_read_like_all_others():
    config = Config(method="step", areas=(0.1, 0.2))
    assert (config.areas, Config().areas, config.noise) == ((0.1, 0.2), (0.1,), 0.15)
    changed = dataclasses.replace(config, method="osa", cuboid_area=0.5)
    assert (changed.method, changed.areas, changed.cuboid_area) == ("osa", (0.1, 0.2), 0.5)
    assert pickle.loads(pickle.dumps(changed)).as_dict() == changed.as_dict()
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'noize' \(did you mean noise\?\)$"):
        Config(noize=1)
    with pytest.raises(AttributeError, match="noize"):
        _ = config.noize


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gradcam", "(did you mean grad-cam?)"),
        ("AOSA", "(did you mean aosa or osa?)"),
        ("", "got "),
        (["aosa"], ""),
    ],
)
def test_a_misspelt_method_gets_the_nearest(name, hint):
    assert refused(method=name).startswith("method must be one of aosa-approx, aosa, ")
    assert refused(method=name).endswith(hint)
