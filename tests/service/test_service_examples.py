"""The examples of docs/examples, run by the systems that they are for."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import triton_server
import triton_stand_in
from numpy.typing import NDArray
from waiting import free_port

from aosa_fast import explain, models
from aosa_fast.video import read_clip

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
Pictures = NDArray[np.uint8]

RAY = """
import sys
try:
    import ray
    from ray import serve
except ImportError as error:
    sys.exit(f"needs ray[serve]: {error}")
sys.path.append(sys.argv[1])
import ray_serve
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
try:
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
    serve.run(ray_serve.app({"method": "aosa-approx"}))
    print("ready", flush=True)
    sys.stdin.read()
finally:
    serve.shutdown()
    ray.shutdown()
"""


@pytest.fixture(scope="module")
def source() -> Pictures:
    """(16, 256, 256, 3): the embedded clip in its own size."""
    return read_clip(Path(models.__file__).parents[1] / "demo" / "clip.mp4", 16).frames


@pytest.fixture(scope="module")
def clips(source: Pictures) -> Pictures:
    """(4, 16, 64, 64, 3): clips that differ, as the embedded model sees them."""
    clip = models.load("demo").preprocessing.crop_frames(source)
    return np.stack([clip, clip[:, :, ::-1], clip[::-1], clip[:, ::-1]])


def at_once(ask: Callable[[Any], Any], asked: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(ask, asked))


def check(clip: Pictures, index: int, probability: float, saliency: NDArray[np.float32]) -> None:
    expected = explain(models.load("demo"), torch.from_numpy(clip[None]))
    assert index == expected.logits.argmax()
    assert probability == pytest.approx(float(expected.probabilities.max()), abs=1e-6)
    assert saliency.dtype == np.float32
    largest = float(expected.saliency.abs().max())
    np.testing.assert_allclose(saliency, expected.saliency[0], rtol=0, atol=1e-4 * largest)


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # pytest's own are too long for Ray's sockets
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        environment |= {"HOME": folder, "RAY_TMPDIR": folder, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        # On a busy machine, 5 seconds and a niceness of 15 are not enough to begin with.
        environment |= {"RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60", "RAY_worker_niceness": "0"}
        log = Path(folder, "log")
        command = [sys.executable, "-P", "-c", RAY, EXAMPLES, str(port)]
        with log.open("w") as file:
            server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment)
        try:
            while "\nready\n" not in (said := log.read_text()):
                if server.poll() is not None:
                    (pytest.skip if said.startswith("needs ray[serve]") else pytest.fail)(said)
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/"
        finally:
            server.communicate(timeout=120)  # its input ends


def ask_ray(address: str, clip: Pictures, timeout: float = 300.0) -> tuple[int, Any]:
    """The status; and the prediction, its probability and the map, or what was said; (0, None) where we went away."""
    try:
        with urllib.request.urlopen(urllib.request.Request(address, clip.tobytes()), timeout=timeout) as answer:
            saliency = np.frombuffer(answer.read(), np.float32).reshape(clip.shape[:3])
            index, probability = (answer.headers[f"X-Aosa-{name}"] for name in ("Prediction-Index", "Probability"))
            return 200, (int(index), float(probability), saliency)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except TimeoutError:
        return 0, None


def test_ray_serve_gives_clips_of_a_batch_their_own_maps_and_refuses_a_wrong_one_alone(
    ray_address: str, clips: Pictures
) -> None:
    *found, wrong = at_once(partial(ask_ray, ray_address), [*clips, clips[0, :15]])
    assert wrong == (400, "the body must be (16, 64, 64, 3) uint8; got 184320 bytes")
    for clip, (status, answer) in zip(clips, found, strict=True):
        assert status == 200
        check(clip, *answer)


def test_ray_serve_refuses_what_is_too_much_and_clients_that_go_away_spoil_nothing(
    ray_address: str, clips: Pictures
) -> None:
    seen = [status for status, _ in at_once(partial(ask_ray, ray_address), [clips[0]] * 100)]
    assert set(seen) == {200, 503}
    at_once(partial(ask_ray, ray_address, timeout=0.1), [clips[0]] * 30)
    end = time.monotonic() + 300
    while (seen := [status for status, _ in at_once(partial(ask_ray, ray_address), [clips[0]] * 8)]) != [200] * 8:
        assert set(seen) <= {200, 503}
        assert time.monotonic() < end


@pytest.fixture(scope="module")
def triton_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with triton_server.serving(EXAMPLES / "triton", tmp_path_factory.mktemp("triton"), free_port()) as address:
        yield address


@pytest.fixture(params=["server", "stand-in"])
def ask_triton(request: pytest.FixtureRequest) -> Iterator[Callable[[list[Pictures]], list[Any]]]:
    """The outputs by name, or the error, of requests that come together, each with clips (B, T, H, W, 3)."""
    if request.param == "server":
        infer = partial(triton_server.infer, request.getfixturevalue("triton_address"), "aosa", "CLIP")
        yield lambda asked: [answer for _, answer in at_once(infer, asked)]
        return
    parameters = {"model": "demo", "method": "aosa-approx", "device": "cpu"}
    with triton_stand_in.loaded(EXAMPLES / "triton" / "aosa" / "1" / "model.py", parameters) as model:
        yield lambda asked: triton_stand_in.execute(model, "CLIP", asked)


def test_triton_gives_requests_of_a_batch_their_own_maps_and_refuses_a_wrong_one_alone(
    ask_triton: Callable[[list[Pictures]], list[Any]], clips: Pictures, source: Pictures
) -> None:
    refused, *found = ask_triton([clips[:1, :15], clips[1:3], clips[3:], source[None]])
    assert refused == "CLIP must be of 16 frames, T in (B, T, H, W, 3); got (1, 15, 64, 64, 3)"
    assert [len(answer["PREDICTION"]) for answer in found] == [2, 1, 1]
    joined = [np.concatenate([answer[name] for answer in found]) for name in ("PREDICTION", "PROBABILITY", "SALIENCY")]
    for clip, index, probability, saliency in zip([*clips[1:], source], *joined, strict=True):
        check(clip, index.item(), probability.item(), saliency)


def test_triton_refuses_more_than_can_wait(triton_address: str, clips: Pictures) -> None:
    ask = partial(triton_server.infer, triton_address, "aosa", "CLIP")
    assert {status for status, _ in at_once(ask, [clips] * 40)} == {200, 503}
    assert ask(clips)[0] == 200
