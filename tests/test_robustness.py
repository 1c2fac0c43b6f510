from __future__ import annotations

import io
import json
import logging
import os
import pickle
import threading
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from aosa_fast import Config, Difference, Explanation, InputError, explain
from aosa_fast.audit import load_map
from aosa_fast.audit.report.rows import find_rows
from aosa_fast.audit.store.dense import DenseWriter, dense_path, read_dense
from aosa_fast.audit.store.parts import PartWriter, done_ids, read_rows
from aosa_fast.audit.store.run_folder import open_run, read_shards
from aosa_fast.boundary import reading
from aosa_fast.data import open_dataset
from aosa_fast.models import load
from aosa_fast.models.checkpoints import fit, read_state
from aosa_fast.models.classifier import read_class_names
from aosa_fast.video import read_clip
from audit_rows import fake_row
from numbered_clips import write_clip
from small_nets import make_net, make_video

METHODS = ("aosa", "aosa-approx", "aosa-path")


def refused(message: str, model=None, video=None, target=0, error: type[Exception] = InputError, **options) -> None:
    video = make_video() if video is None else video
    with pytest.raises(error, match=message) as caught:
        explain(make_net() if model is None else model, video, target, **options)
    assert "\n" not in str(caught.value)


BAD_OUTPUTS = {
    "3-D": (lambda x: x[:, 0, 0], r"^model must return one row .* with B=1; got \(1, 32, 40\)$"),
    "one row too many": (lambda x: x.new_zeros(len(x) + 1, 6), r"^model must return one row .*; got \(2, 6\)$"),
    "1-D": (lambda x: x.sum((1, 2, 3, 4)), r"^model must return one row .*; got \(1,\)$"),
    "no classes": (lambda x: x.new_zeros(len(x), 0), r"^model must return one row .*; got \(1, 0\)$"),
    "NaN": (lambda x: x.new_full((len(x), 6), torch.nan), r"^model must return finite logits; got 6 NaN or infinite$"),
    "infinite": (lambda x: x.mean((2, 3, 4)) / 0, r"^model must return finite logits; got 3 NaN or infinite$"),
    "tuple": (lambda x: (x, x), r"^model must return logits as a tensor, .*lambda video: .*; got tuple$"),
    "nothing": (lambda x: None, r"^model must return logits .*; got NoneType$"),
    "mapping without": (lambda x: {"out": x, "head": x}, r"^model must return logits .*; got a dict with out, head$"),
    "empty mapping": (lambda x: {}, r"^model must return logits .*; got a dict with nothing$"),
    "object without": (lambda x: SimpleNamespace(logits=3), r"^model must return logits .*; got SimpleNamespace$"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", BAD_OUTPUTS)
def test_bad_outputs(kind, method):
    model, message = BAD_OUTPUTS[kind]
    refused(message, model=model, method=method)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (6, r"^target must be a class from 0 to 5; got 6$"),
        (-1, r"^target must be a class from 0 to 5; got -1$"),
        ("walking", r"^target must be an index, as this model has no class names; got walking$"),
        (torch.tensor([0.5]), r"^target must be integer class indices; got torch.float32$"),
        (torch.tensor([0, 1]), r"^target must have one class per clip, B=1; got shape \(2,\)$"),
        (True, r"^target must be an index, .*; got True$"),
        ([], r"^target must name at least one class; got an empty list$"),
        ([0, 9], r"^target must be a class from 0 to 5; got 9$"),
        (Difference(0, 9), r"^target must be a class from 0 to 5; got 9$"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", METHODS)
def test_bad_targets(target, message, method):
    refused(message, target=target, method=method)


@pytest.mark.parametrize("names", [["only", "two"], []], ids=["too few", "none"])
def test_class_names_are_one_per_class(names):
    if names:
        refused(r"^class_names must .*6.*; got 2$", target=5, class_names=names)
    else:
        assert explain(make_net(), make_video(), 5, class_names=names).metadata["target"] == ["class 5"]


FRAMES = np.zeros((1, 4, 32, 40, 3), dtype=np.uint8)
BAD_OPTIONS = {
    "flow shape": (
        {"flow": torch.zeros(1, 4, 32, 40, 2)},
        r"^flow must have shape \(1, 3, 32, 40, 2\), .*; got \(1, 4,",
    ),
    "flow dtype": ({"flow": torch.zeros(1, 3, 32, 40, 2).int()}, r"^flow must be floating point; got torch.int32$"),
    "flow of a small frame": ({"flow": "dis-fast", "video": make_video()[..., :11]}, r"^flow=dis-fast .*32x11$"),
    "fill shape": ({"fill": torch.zeros(5)}, r"^fill must broadcast to \(1, 3, 4, 32, 40\); got \(5,\)$"),
    "black": ({"fill": "black"}, r"^fill=black must come with the mean and std .*; got none$"),
    "stride": ({"stride": 64}, r"^stride must be at most 63 for frames of 32x40; got 64$"),
    "frames dtype": ({"frames": FRAMES.astype(np.float32)}, r"^frames must be uint8; got float32$"),
    "mean": ({"mean": [1, 2], "std": [1]}, r"^mean must have one value, or one per channel, C=3; got 2$"),
    "std": ({"mean": [1], "std": [0]}, r"^std must be finite and positive; got \[0\]$"),
    "one class": (
        {"model": lambda x: x.mean((2, 3, 4))[:, :1], "score": "margin"},
        r"^score=margin must have at least two classes; got a model with one: use score='sigmoid'",
    ),
    "softmax of one class": ({"model": lambda x: x.mean((2, 3, 4))[:, :1]}, r"^score=prob must have at least two cl"),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_bad_options(kind):
    options, message = BAD_OPTIONS[kind]
    refused(message, **options)


@pytest.mark.parametrize("options", [{"strid": 4}, {"strid": 4, "config": Config()}])
def test_unknown_options_are_no_option(options):
    refused("strid", error=TypeError, **options)


class Steep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        return x.mean((2, 3, 4))

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return torch.full((len(grad), 3, 4, 32, 40), torch.nan)


@pytest.mark.parametrize("method", ["aosa-approx", "aosa-path"])
def test_models_without_a_gradient(method):
    net = make_net()
    needed = r"^model must be differentiable by its input for this method; use method=aosa$"
    refused(needed, model=lambda x: net(x).detach(), method=method)
    refused(needed, model=lambda x: net(x.detach()), method=method)
    refused(r"^model must have a finite gradient by its input; got NaN or inf", model=Steep.apply, method=method)
    for model in (lambda x: net(x.detach()), Steep.apply):
        explain(model, make_video(), 0, method="aosa")


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_deep_in_the_work_leaves_no_thread_behind(method):
    net, calls = make_net().train(), []

    def fail(*_: object) -> None:
        calls.append(1)
        if len(calls) == 4:  # after those that ask what the model is like: one clip, two, and the first batch
            raise KeyError("deep inside")

    net[1].register_forward_hook(fail)
    before = threading.active_count()
    with pytest.raises(InputError, match=r"it raised KeyError: 'deep inside'; .* \(method=") as caught:
        explain(net, make_video(B=3), 0, method=method, batch_size=2)
    assert isinstance(caught.value.__cause__, KeyError)
    assert threading.active_count() == before
    assert all(module.training for module in net.modules())
    with pytest.raises(ArithmeticError, match="in the flow"):
        explain(
            net, make_video(), 0, method=method, flow=lambda _: (_ for _ in ()).throw(ArithmeticError("in the flow"))
        )
    assert threading.active_count() == before
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize(("method", "samples"), [("aosa", 0), ("aosa", 2), ("aosa-approx", 0), ("aosa-path", 0)])
def test_progress_goes_up_to_the_end(method, samples):
    seen = []
    options = {"fill": "conditional", "samples": samples} if samples else {}
    explain(
        make_net(), make_video(B=3), 0, method=method, batch_size=2, progress=lambda *step: seen.append(step), **options
    )
    done, count = zip(*seen, strict=True)
    assert list(done) == sorted(set(done))
    assert len(set(count)) == 1
    assert done[-1] == count[0]
    assert done[0] < count[0]


def test_explains_under_inference_mode():
    net, outside = make_net(), make_video()
    with torch.inference_mode():
        for method in ("aosa", "aosa-approx", "aosa-path"):
            inside = explain(net, make_video(), 1, method=method)
            assert torch.equal(inside.saliency, explain(net, outside, 1, method=method).saliency)


def test_a_numpy_index_is_an_index():
    assert torch.equal(
        explain(make_net(), make_video(), np.int64(2)).scores, explain(make_net(), make_video(), 2).scores
    )


def test_logits_that_are_a_view_of_the_input():
    def view(video: torch.Tensor) -> torch.Tensor:
        return video[:, 0, 3, 8, 4:9]

    options = {"method": "aosa", "score": "logit", "batch_size": 2}
    found = explain(view, make_video(), 1, **options).scores
    assert torch.equal(found, explain(lambda video: view(video).clone(), make_video(), 1, **options).scores)
    assert found.abs().max() > 0


def picture(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 12, 16, 3), dtype=np.uint8)
    first, *others = map(Image.fromarray, noise)
    first.save(path, save_all=True, append_images=others)


def explanation(path: Path) -> None:
    explain(make_net(), make_video(), 0, method="aosa", stride=16, box=16).save(path)


def head(classes: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(3, classes))


def program(path: Path) -> None:
    torch.export.save(torch.export.export(head(4).eval(), (make_video(),)), path)


def part(path: Path) -> None:
    with PartWriter(path.parent.parent, (1, 1)) as writer:
        writer.add([fake_row("a"), fake_row("b")])


def read_part(path: Path) -> None:
    folder = path.parent.parent
    done_ids(folder)
    for row in [*read_rows(folder).to_pylist(), *find_rows(folder, ["a", "b"], list(fake_row("a")))]:
        load_map(row)


def store(path: Path) -> None:
    with DenseWriter(path.parents[3], (1, 1), (2, 3, 4)) as writer:
        writer.append("a", np.ones((2, 3, 4), np.float32))


def ucf101(path: Path) -> None:
    clip = path.parent / "Diving" / "v_Diving_g01_c01.avi"
    clip.parent.mkdir()
    clip.touch()
    labels = {"subset": "validation", "annotations": {"label": "Diving"}}
    boxes = {"annotations": [{"label": 5, "sf": 0, "boxes": np.arange(8).reshape(2, 4)}]}
    contents = {
        "testlist01.txt": b"Diving/v_Diving_g01_c01.avi\n",
        "list.json": json.dumps({"labels": ["Diving"], "database": {clip.stem: labels}}).encode(),
        "pyannot.pkl": pickle.dumps({f"Diving/{clip.stem}": boxes}, 2),
    }
    path.write_bytes(contents[path.name])


def table(path: Path) -> None:
    columns = {"path": ["a", "b"], "label": ["x", "y"], "start": [1.5, None], "boxes": [[[4, 1, 2, 30, 44]], None]}
    pq.write_table(pa.table(columns), path, compression="none")


def run_json(path: Path) -> None:
    open_run(path.parent, {"model": "demo"}, {"data": "rendered"}, (1, 2)).close()


# By the name of the file: what makes it, and what reads it.
FILES: dict[str, tuple[Callable[[Path], Any], Callable[[Path], Any]]] = {
    **{f"a.{suffix}": (picture, lambda path: read_clip(path, 1)) for suffix in ("png", "tif", "webp", "gif")},
    "folder/1.png": (picture, lambda path: read_clip(path.parent, 1)),
    "a.mp4": (lambda path: write_clip(path, 12), lambda path: read_clip(path, 4, stride=2)),
    "a.npz": (explanation, Explanation.load),
    "a.pth": (lambda path: torch.save(head(4).state_dict(), path), lambda path: fit(head, read_state(path), path)),
    "old.pth": (
        lambda path: torch.save(head(4).state_dict(), path, _use_new_zipfile_serialization=False),
        lambda path: fit(head, read_state(path), path),
    ),
    "a.pt2": (program, lambda path: load(str(path))),
    "a.pt": (lambda path: torch.jit.save(torch.jit.script(head(4)), path), lambda path: load(str(path))),
    "names.txt": (lambda path: path.write_text("1 a\n2 b\n"), lambda path: read_class_names(str(path), 2)),
    "names.json": (lambda path: path.write_text('{"a": 0, "b": 1}'), lambda path: read_class_names(str(path), 2)),
    "a.csv": (lambda path: path.write_text('path,label,boxes\na,b,"[[4,1,2,3,4]]"\nc,d,\n'), open_dataset),
    "a.parquet": (table, open_dataset),
    "testlist01.txt": (ucf101, lambda path: open_dataset(f"ucf101:{path.parent}", split="test01")),
    "list.json": (ucf101, lambda path: open_dataset(f"ucf101:{path.parent}", annotations=path)),
    "pyannot.pkl": (ucf101, lambda path: open_dataset(f"ucf101-24:{path.parent}")),
    "run.json": (run_json, lambda path: read_shards(path.parent)),
    "clips/part-1of1-000000.parquet": (part, read_part),
    "dense/1of1.zarr/values/zarr.json": (store, lambda path: read_dense(path.parents[3], (1, 1), 0)),
}


def damaged(whole: bytes) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for kind in ("flip", "cut", "insert", "ones", "number") * 8:
        content = bytearray(whole)
        place = int(rng.integers(len(whole)))
        digits = [i for i, byte in enumerate(whole) if byte in b"0123456789"]
        if kind == "flip":
            content[place] ^= 1 << int(rng.integers(8))
        elif kind == "cut":
            del content[place:]
        elif kind == "insert":
            content[place:place] = rng.bytes(5)
        elif kind == "ones":
            content[place : place + 4] = b"\xff\xff\xff\x7f"
        elif digits:
            at = int(rng.choice(digits))
            content[at : at + 1] = rng.choice([b"999999999999", b"-1", b"[]", b"{}", b'"x"', b"null", b"1e400"])
        yield bytes(content)
    yield b""
    yield b"[" * 100_000


@pytest.mark.filterwarnings("ignore")  # what can be read in spite of the damage may be warned of
@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_one_line(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make, read = FILES[name]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    read(path)
    lines: list[str] = []
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        try:
            read(path)
        except InputError as error:
            lines.append(str(error))
    assert len(lines) >= 5  # few of a GIF, which ends with a warning where it is cut off
    assert not [line for line in lines if "\n" in line or len(line) > 600]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("dense")])  # there zarr opens all
def test_pipes_are_not_waited_for(name: str, tmp_path: Path) -> None:
    make, read = FILES[name]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"^[^\n]*(must be|holds none|has no|there is no)[^\n]*$"):
        read(path)


def stored(path: Path, **changes: Any) -> Path:
    """An explanation some of whose arrays are others, or missing (None)."""
    explanation(path)
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_arrays_that_do_not_fit_are_no_explanation(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    assert Explanation.load(stored(path)).saliency.shape == (1, 4, 32, 40)
    wrong = [
        ("scores", np.zeros((1, 3), np.float32)),
        ("frames", np.zeros((1, 4, 32, 40, 3), np.float32)),
        ("logits", np.zeros((2, 6), np.float32)),
        ("boxes", np.zeros((1, 6, 4), np.int32)),
        ("tracks", np.array([object()])),
        *((name, None) for name in ("metadata", "frames", "saliency")),
        *(("metadata", np.array(text)) for text in ("{}", "[]", "{")),
    ]
    for name, array in wrong:
        with pytest.raises(InputError, match=r"a\.npz: must be an explanation saved by aosa_fast; got "):
            Explanation.load(stored(path, **{name: array}))


def test_no_room_is_made_for_what_is_only_announced(tmp_path: Path) -> None:
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1 << 20)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("saliency.npy", header.getvalue() + b"1234")
    with pytest.raises(InputError, match=r"a\.npz: must be an explanation"):
        Explanation.load(tmp_path / "a.npz")
    torch.save({"2.weight": torch.zeros(1).expand(1 << 40, 3), "2.bias": torch.zeros(1)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth: must fit Sequential; got 2\.weight \(1099511627776, 3\)"):
        fit(head, read_state(tmp_path / "a.pth"), "a.pth")
    for sides in ([4, 4, 2, 30000, 30000, 3, 3], [4, 4, 2, 2**31 - 1, 2**31 - 1, 3, 3], [float("inf")] * 7):
        with pytest.raises(InputError, match=r"^a: must have a map "):
            load_map({**fake_row("a"), "map_shape": sides})
    store(tmp_path / "dense" / "1of1.zarr" / "values" / "zarr.json")
    facts = dense_path(tmp_path, (1, 1)) / "values" / "zarr.json"
    content = json.loads(facts.read_text())
    content["shape"][1:] = content["chunk_grid"]["configuration"]["chunk_shape"][1:] = [2, 1 << 20, 1 << 20]
    content["codecs"][0]["configuration"]["chunk_shape"][1:] = [2, 1 << 20, 1 << 20]
    facts.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"must have a map of at most [0-9]+ voxels; got 2 x 1048576 x 1048576"):
        read_dense(tmp_path, (1, 1), 0)


@pytest.mark.parametrize("column", ["path", "label", "id"])
def test_columns_that_are_no_text(column: str, tmp_path: Path) -> None:
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe"))
    for values in (broken, pa.array([b"\xff"]), pa.array([{"a": 1}]), pa.array([1 << 62], pa.timestamp("us"))):
        columns = {"path": pa.array(["a"]), "label": pa.array(["b"]), column: values}
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        with pytest.raises(InputError, match=rf"^[^\n]*a\.parquet(, row 1: {column} must be text|: must be)[^\n]*$"):
            open_dataset(tmp_path / "a.parquet")
    pq.write_table(pa.table({"path": [b"\xc3\xa9"], "label": [b"x"]}), tmp_path / "a.parquet")
    (sample,) = open_dataset(tmp_path / "a.parquet").samples
    assert (sample.id, sample.path) == ("é", str(tmp_path / "é"))


def test_only_errors_become_errors_of_the_file() -> None:
    own = InputError("box must be at least 1; got 0")
    with pytest.raises(InputError) as caught, reading("a.json", "must be JSON"):
        raise own
    assert caught.value is own
    for stop in (KeyboardInterrupt, SystemExit, GeneratorExit):
        with pytest.raises(stop), reading("a.json", "must be JSON"):
            raise stop
    with (
        pytest.raises(InputError, match=r"^a\.json: must be JSON; got KeyError: 'fps'$") as caught,
        reading("a.json", "must be JSON"),
    ):
        raise KeyError("fps")
    assert isinstance(caught.value.__cause__, KeyError)
