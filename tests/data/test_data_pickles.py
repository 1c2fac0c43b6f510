from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aosa_fast.data.pickles import load_plain_pickle
from aosa_fast.errors import InputError


def written(folder: Path, content: bytes) -> Path:
    path = folder / "boxes.pkl"
    path.write_bytes(content)
    return path


def same(one: Any, other: Any) -> bool:
    if isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in other)
    if isinstance(other, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(other, np.ndarray):
        return one.dtype == other.dtype and one.shape == other.shape and np.array_equal(one, other)
    return type(one) is type(other) and one == other


CONTENT = {
    "plain": [1, -(2**70), 2.5, True, None, "é", b"\xff\x00", b"", (1, (2,)), {3, 4}, frozenset({5})],
    "arrays": [np.arange(12).astype(kind).reshape(3, 4) for kind in ("u1", "<i2", ">i4", "i8", "u2", "f4", "f8", "?")],
    "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
    "strided": np.arange(24).reshape(4, 6)[::2, ::-3],
    "empty": np.zeros((0, 4), np.int32),
    "scalars": [np.uint8(90), np.float64(0.5), np.int64(-3), np.bool_(True)],
}


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_every_protocol(protocol: int, tmp_path: Path):
    content = pickle.dumps(CONTENT, protocol)
    assert same(load_plain_pickle(written(tmp_path, content)), pickle.loads(content))
    older = content.replace(b"numpy._core", b"numpy.core")
    if protocol < 4:  # from 4 on, names carry their length
        assert older != content
        assert same(load_plain_pickle(written(tmp_path, older)), pickle.loads(content))


def test_a_pickle_of_python_2(tmp_path: Path):
    data = np.array([[300, 2, 30, 255]], "<i2").tobytes()
    content = (
        b"\x80\x02}U\x05boxescnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01K\x04\x86"
        b"cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + data
        + b"tbs."
    )
    loaded = load_plain_pickle(written(tmp_path, content))
    assert same(loaded, {"boxes": np.array([[300, 2, 30, 255]], "<i2")})


class Call:
    def __init__(self, function: Any, *arguments: Any):
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def named(module: bytes, name: bytes, arguments: bytes = b")") -> bytes:
    return b"\x80\x02c" + module + b"\n" + name + b"\n" + arguments + b"R."


def test_malicious_pickles_are_refused_before_anything_runs(tmp_path: Path):
    trace = tmp_path / "ran"
    code = f"open({str(trace)!r}, 'w').close()"
    (tmp_path / "array.npy").write_bytes(b"")
    calls = {
        "posix.system": pickle.dumps(Call(os.system, f"touch {trace}")),
        "builtins.eval": pickle.dumps(Call(eval, code)),
        "builtins.exec": pickle.dumps([1, {"a": Call(exec, code)}], 3),
        "builtins.getattr": pickle.dumps(Call(getattr, "a", "b")),
        "__builtin__.eval": named(b"__builtin__", b"eval", b"U\x010\x85"),
        "numpy.load": pickle.dumps(Call(np.load, str(tmp_path / "array.npy"))),
        "numpy.fromfile": named(b"numpy", b"fromfile"),
        "numpy.memmap": pickle.dumps(Call(np.memmap, str(trace), "u1", "w+")),
        "numpy.core.multiarray.fromfile": named(b"numpy.core.multiarray", b"fromfile"),
        "numpy.ndarray.tofile": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
        "builtins.dict.fromkeys": b"\x80\x04\x8c\x08builtins\x8c\x0ddict.fromkeys\x93.",
        "builtins.str": named(b"builtins", b"str"),
        "pathlib.Path": named(b"pathlib", b"Path"),
        "os.system": b"(S'true'\nios\nsystem\n.",
        "aosa_fast.data.pickles.load_plain_pickle": named(b"aosa_fast.data.pickles", b"load_plain_pickle"),
    }
    for name, content in calls.items():
        with pytest.raises(InputError) as caught:
            load_plain_pickle(written(tmp_path, content))
        assert str(caught.value).endswith(f"NumPy arrays of numbers; it names {name}")
        assert "\n" not in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content",
    [
        # Object arrays, whose raw bytes would be taken for pointers; absurd sizes; other codecs; what is no call.
        pickle.dumps(np.array([{}, []], object)),
        pickle.dumps(np.array(["text"])),
        pickle.dumps(np.zeros(2, "i4,f8")),
        pickle.dumps(np.array(["2020-01-01"], "M8[D]")),
        pickle.dumps(np.arange(4)).replace(b"i8", b"O8"),
        named(b"builtins", b"bytes", b"\x8a\x05\x00\x00\x00\x00\x10\x85"),
        named(b"numpy", b"ndarray", b"\x8a\x05\x00\x00\x00\x00\x10\x85"),
        named(b"numpy.core.multiarray", b"scalar", b"cnumpy\ndtype\nU\x02u1\x85R\x8a\x05\x00\x00\x00\x00\x10\x86"),
        named(b"numpy.core.multiarray", b"scalar", b"cnumpy\ndtype\nU\x02u1\x85RK\x01\x86"),
        named(b"numpy.core.multiarray", b"scalar", b"cnumpy\ndtype\nU\x01\x00\x86"),
        named(b"_codecs", b"encode", b"X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86"),
        b"\x80\x02cnumpy\ndtype\nU\x02u1\x85R(K\x03U\x01!NNNNNK\x00tb.",
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01K\x01\x85NK\x00U\x01atb.",
        b"\x80\x02c_codecs\nencode\nN}U\x08__call__K\x00s\x86b.",
        b"\x80\x02cbuiltins\nset\nN}U\x03addK\x00s\x86b.",
        b"\x80\x02cnumpy\ndtype\nN}U\x04readK\x00s\x86b.",
        b"\x80\x02U\x01aQ.",
        b"\x80\x02\x82\x01.",
        b"\x80\x05\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x05\x96\x00\x00\x00\x00\x00\x01\x00\x00.",
        b"",
        b"not a pickle",
        b"PK\x03\x04",
    ],
)
def test_junk_is_one_line(content: bytes, tmp_path: Path):
    with pytest.raises(InputError, match=r"^[^\n]*boxes.pkl: must be a pickle of plain containers and NumPy arrays of"):
        load_plain_pickle(written(tmp_path, content))
    # What a pickle did to the stand-ins, if anything, does not last.
    plain = pickle.dumps(CONTENT, 2)
    assert same(load_plain_pickle(written(tmp_path, plain)), pickle.loads(plain))


def test_a_huge_memo_takes_no_memory(tmp_path: Path):
    assert load_plain_pickle(written(tmp_path, b"\x80\x02K\x01r\xff\xff\xff\x7f.")) == 1


def test_truncated_and_flipped_pickles_never_crash(tmp_path: Path):
    whole = pickle.dumps({"A/v": {"annotations": [{"label": 3, "sf": 0, "boxes": np.arange(8).reshape(2, 4)}]}}, 2)
    for length in range(len(whole)):
        with pytest.raises(InputError, match=r"in one piece|it names"):
            load_plain_pickle(written(tmp_path, whole[:length]))
    rng = np.random.default_rng(0)
    refused = 0
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= int(rng.integers(1, 256))
        try:
            load_plain_pickle(written(tmp_path, bytes(flipped)))
        except InputError:
            refused += 1
    assert refused > len(whole) // 4
    with pytest.raises(InputError, match=r"must be readable; got No such file"):
        load_plain_pickle(tmp_path / "no.pkl")
