"""What the service answers, whom it refuses, and that whoever goes away frees its place."""

from __future__ import annotations

import base64
import http.client
import io
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
import torch
from PIL import Image
from service_runs import CLIP, CONFIG, VIDEO, Answer, HeldNetwork, Served, ask, serving
from waiting import wait_for

from aosa_fast import Explanation, explain, models
from aosa_fast.demo import demo_clip_path
from aosa_fast.models.views import read_views
from aosa_fast.service.access import Access
from aosa_fast.video import read_clip

TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as running:
        yield running


def form(*parts: tuple[str, str, bytes]) -> tuple[bytes, dict[str, str]]:
    """The body of a form and its headers; parts are names, file names ("" for a field) and contents."""
    body = b""
    for name, file, content in parts:
        place = f'form-data; name="{name}"' + (f'; filename="{file}"\r\nContent-Type: image/png' if file else "")
        body += f"--limit\r\nContent-Disposition: {place}\r\n\r\n".encode() + content + b"\r\n"
    return body + b"--limit--\r\n", {"Content-Type": "multipart/form-data; boundary=limit"}


@cache
def plain() -> Explanation:
    classifier = models.load("demo")
    _, pictures, _ = read_views(demo_clip_path(), classifier.preprocessing, "center")
    return explain(classifier, torch.from_numpy(pictures[None]), config=CONFIG)


def test_a_clip_becomes_prediction_map_and_metadata(served: Served, tmp_path: Path) -> None:
    answer = served.explain("?include=png,npz,mp4")
    known = plain()
    assert answer.status == 200
    found = answer.value
    facts = known.metadata
    assert (found["prediction"], found["target"]["class"]) == (facts["prediction"][0], facts["target"][0])
    assert found["probability"] == pytest.approx(facts["probability"][0], abs=1e-5)
    assert found["top"][0]["class"] == found["prediction"]
    assert found["prediction_index"] == found["top"][0]["index"] == facts["target_index"][0]
    assert found["metadata"]["source"]["frame_indices"] == list(range(16))
    assert {"body", "decode", "model", "total"} <= set(found["seconds"])
    files = {name: base64.b64decode(content) for name, content in found["files"].items()}
    for name, content in files.items():
        (tmp_path / f"a.{name}").write_bytes(content)
    difference = Explanation.load(tmp_path / "a.npz").saliency - known.saliency
    assert float(difference.abs().max()) <= 1e-5 * float(known.saliency.abs().max())
    assert read_clip(tmp_path / "a.mp4", 16, start=0).total_frames == 16
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.width > 500


@pytest.mark.parametrize(
    ("result", "media"), [("npz", "application/x-npz"), ("png", "image/png"), ("mp4", "video/mp4")]
)
def test_a_result_is_asked_for_by_name_or_by_media_type(served: Served, result: str, media: str) -> None:
    named = served.explain(f"?result={result}")
    accepted = served.explain(headers={**VIDEO, "Accept": f"application/json;q=0.5, {media}, */*;q=0.1"})
    for answer in (named, accepted):
        assert (answer.status, answer.headers["content-type"]) == (200, media)
        assert answer.headers["x-aosa-prediction"] == plain().metadata["prediction"][0]
        assert float(answer.headers["x-aosa-probability"]) == pytest.approx(
            plain().metadata["probability"][0], abs=1e-5
        )


def test_a_form_brings_a_clip_and_arguments(served: Served) -> None:
    body, headers = form(("target", "", b"up"), ("clip", "clip.mp4", CLIP), ("include", "", b"png"))
    found = served.explain(body=body, headers=headers).value
    assert found["target"]["class"] == "up"
    assert set(found["files"]) == {"png"}


def test_pictures_of_a_form_are_a_clip_in_their_order(served: Served) -> None:
    frames = read_clip(demo_clip_path(), 16, start=0).frames
    parts = []
    for frame in frames:
        picture = io.BytesIO()
        Image.fromarray(frame).save(picture, "PNG")
        parts.append(("frames", "any.png", picture.getvalue()))
    body, headers = form(*parts)
    answer = served.explain(body=body, headers=headers)
    assert answer.value["probability"] == pytest.approx(plain().metadata["probability"][0], abs=1e-5)


BROKEN = form(("clip", "a", b"1"))[0]
FORM = form()[1]
REFUSED = {
    "argument": (400, "POST", "/explain?targt=1", CLIP, VIDEO, "arguments must be of target, "),
    "result": (400, "POST", "/explain?result=gif", CLIP, VIDEO, "result must be one of json, npz, png, mp4; got 'gif'"),
    "include": (400, "POST", "/explain?include=png,gif", CLIP, VIDEO, "include must be of npz, png, mp4; got 'gif'"),
    "empty": (400, "POST", "/explain", b"", VIDEO, "body must be a clip; got no bytes"),
    "no clip": (400, "POST", "/explain", form(("target", "", b"1"))[0], FORM, "form must have a file `clip`"),
    "two clips": (400, "POST", "/explain", form(*[("clip", "a", b"1")] * 2)[0], FORM, "form must have one file"),
    "field": (400, "POST", "/explain", form(("x", "", b"1"), ("clip", "a", b"1"))[0], FORM, "arguments must be of "),
    "cut": (400, "POST", "/explain", BROKEN[:-6], FORM, "body must be multipart/form-data; it ends before its end"),
    "no form": (400, "POST", "/explain", b"hello", FORM, "body must be multipart/form-data; it breaks its rules"),
    "no boundary": (400, "POST", "/explain", BROKEN, {"Content-Type": "multipart/form-data"}, "Content-Type multipart"),
    "nothing": (404, "GET", "/nothing", None, {}, "there is nothing at this address"),
    "method": (405, "GET", "/explain", None, {}, "method must be another one; got GET"),
    "text": (415, "POST", "/explain", b"hello", {"Content-Type": "text/plain"}, "Content-Type must be video/"),
    "gzip": (
        415,
        "POST",
        "/explain",
        CLIP,
        {**VIDEO, "Content-Encoding": "gzip"},
        "Content-Encoding must not be given",
    ),
    "no video": (422, "POST", "/explain", b"hello", VIDEO, "clip: must be "),
    "target": (422, "POST", "/explain?target=nobody", CLIP, VIDEO, "target must be an index or one of left, right"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_is_one_line_and_the_connection_goes_on(served: Served, case: str) -> None:
    status, method, path, body, headers, reason = REFUSED[case]
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    answer = ask(connection, method, path, body, headers)
    assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
    assert answer.error.startswith(reason)
    assert "/tmp" not in answer.error
    kept = connection.sock
    assert ask(connection, "GET", "/health").status == 200
    assert connection.sock is kept is not None
    assert served.work.under_way == 0
    connection.close()


def test_facts_about_the_service(served: Served) -> None:
    assert served.ask("GET", "/health").value == {"status": "alive"}
    assert served.ask("GET", "/ready").value == {"status": "ready"}
    assert served.ask("HEAD", "/ready").body == b""
    assert served.ask("GET", "/about").value["limits"]["concurrency"] == 16
    before = served.metric('aosa_requests_total{status="404"}')
    served.ask("GET", "/nothing?secret=1")
    assert served.metric('aosa_requests_total{status="404"}') == before + 1
    (line,) = [line for line in served.lines if line.startswith("127.0.0.1 GET /nothing 404") and "secret" not in line][
        -1:
    ]
    assert line.count("\n") == 0
    page = served.ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "'unsafe" not in page.headers["content-security-policy"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_long_is_refused_while_it_is_sent(chunked: bool) -> None:
    pieces = 3000

    def body() -> Iterator[bytes]:
        for _ in range(pieces):
            yield bytes(1000)

    headers = VIDEO if chunked else {**VIDEO, "Content-Length": str(pieces * 1000)}
    with serving(megabytes=1.0) as served:
        answer = served.explain(body=body(), headers=headers)
        assert (answer.status, answer.error) == (413, "body must have at most 1 MB (10^6 bytes)")
        with served.connect() as raw:  # what is announced is refused before it is sent
            raw.sendall(b"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_slow_body_gives_its_place_back() -> None:
    with serving(timeout=1.0, concurrency=1) as served, served.connect() as raw:
        raw.sendall(b"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n")
        wait_for(lambda: served.work.under_way == 1)
        assert served.explain().status == 503
        for _ in range(40):
            raw.sendall(b"x")
            time.sleep(0.05)
            if served.work.under_way == 0:
                break
        assert raw.recv(1000).startswith(b"HTTP/1.1 408 ")
        assert served.explain().status == 200


def test_slow_headers_and_idle_connections_keep_nobody_waiting(served: Served) -> None:
    idle = [served.connect() for _ in range(100)]
    for raw in idle[:50]:
        raw.sendall(b"POST /explain HTTP/1.1\r\nHost: loc")
    began = time.monotonic()
    assert served.explain().status == 200
    assert time.monotonic() - began < 9
    idle[0].settimeout(20)
    while True:  # a byte now and then does not put off the end
        try:
            idle[0].sendall(b"a")
            idle[0].settimeout(1.0)
            if idle[0].recv(1000) == b"":
                break
        except TimeoutError:
            assert time.monotonic() - began < 15
        except ConnectionError:
            break
    for raw in idle:
        raw.close()


def at_once(pool: ThreadPoolExecutor, served: Served, count: int) -> list[Future[Answer]]:
    return [pool.submit(served.explain) for _ in range(count)]


def test_who_comes_too_many_is_refused_at_once_and_the_others_are_answered() -> None:
    network = HeldNetwork()
    big = CLIP + bytes(5_000_000)
    with ThreadPoolExecutor(4) as pool, serving(network, concurrency=3) as served:
        waiting = at_once(pool, served, 3)
        wait_for(lambda: served.work.under_way == 3)
        for body in (CLIP, big):
            began = time.monotonic()
            refused = served.explain(body=body)
            assert time.monotonic() - began < 5
            assert (refused.status, refused.headers["retry-after"]) == (503, "1")
            assert refused.error.startswith("3 requests are under way")
        assert served.ask("GET", "/health").status == 200
        network.let.set()
        assert [answer.result().status for answer in waiting] == [200] * 3
        assert served.metric('aosa_dropped_total{reason="overload"}') == 2


@pytest.mark.parametrize(("limits", "reason"), [({"queue": 1}, "2 clips wait"), ({"timeout": 4.0}, "1 clips wait")])
def test_who_would_wait_too_long_for_the_model_is_refused_before_anything_is_read(limits: Any, reason: str) -> None:
    network = HeldNetwork()
    with ThreadPoolExecutor(2) as pool, serving(network, batch=1, **limits) as served:
        if "timeout" in limits:  # one clip says how slow the model is
            threading.Timer(1.8, network.let.set).start()
            assert served.explain().status == 200
            network.let.clear()
        waiting = at_once(pool, served, int(reason[0]))
        wait_for(lambda: served.work.under_way == len(waiting))
        with served.connect() as raw:  # of the body, nothing comes
            raw.sendall(b"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2000000\r\n\r\n")
            answer = b"".join(iter(lambda: raw.recv(1000), b""))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert reason.encode() in answer
        network.let.set()
        assert [answer.result().status for answer in waiting] == [200] * len(waiting)


def post(served: Served, body: bytes = CLIP, length: int | None = None) -> socket.socket:
    raw = served.connect()
    head = (
        f"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nContent-Length: {length or len(body)}"
    )
    raw.sendall(head.encode() + b"\r\n\r\n" + body)
    return raw


def test_who_goes_away_frees_its_place_and_nobody_else_is_affected() -> None:
    network = HeldNetwork()
    with ThreadPoolExecutor(4) as pool, serving(network, concurrency=4, batch=1) as served:
        running = post(served)
        wait_for(lambda: network.asked)
        (other,) = at_once(pool, served, 1)
        wait_for(lambda: served.work.under_way == 2)
        in_queue, reading = post(served), post(served, CLIP[:500], length=len(CLIP))
        wait_for(lambda: served.work.under_way == 4)
        wait_for(lambda: served.metric("aosa_queue_clips") == 2)
        for gone, left in ((reading, 3), (in_queue, 2), (running, 1)):
            gone.close()
            wait_for(lambda left=left: served.work.under_way == left, 5)
        assert served.metric("aosa_queue_clips") == 1
        assert served.metric('aosa_dropped_total{reason="gone"}') == 3
        network.let.set()
        assert other.result().status == 200
        assert served.explain().status == 200
        # Of the two that had gone before their turn, nothing came to the model.
        assert served.metric("aosa_batch_clips_sum") == 3
        assert served.work.under_way == 0


def test_an_answer_that_is_late_is_given_up() -> None:
    network = HeldNetwork()
    with serving(network, timeout=1.0) as served:
        answer = served.explain()
        assert (answer.status, served.work.under_way) == (504, 0)
        assert answer.error
        network.let.set()
        wait_for(lambda: served.explain().status == 200)


def sockets() -> int:
    """How many this process has."""
    places = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    return sum(os.path.lexists(place) and os.readlink(place).startswith("socket:") for place in places)


def test_who_does_not_take_the_answer_loses_it() -> None:
    with serving(timeout=5.0) as served:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        before = sockets()
        raw.connect(("127.0.0.1", served.port))
        raw.sendall(b"POST /explain?include=npz HTTP/1.1\r\nHost: localhost\r\n")
        raw.sendall(f"Content-Type: video/mp4\r\nContent-Length: {len(CLIP)}\r\n\r\n".encode() + CLIP)
        wait_for(lambda: served.work.under_way == 1)
        assert sockets() == before + 1
        wait_for(lambda: served.work.under_way == 0 and sockets() == before, 10)
        assert "POST /explain gone " in served.lines[0]
        raw.close()


def test_a_bug_is_said_to_whoever_runs_the_service_and_not_to_the_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serving() as served:
        (folder,) = tmp_path.glob("aosa_fast-serve-*")
        rmtree(folder)  # the place of uploads is gone
        answer = served.explain()
        assert (answer.status, answer.error) == (500, "internal error")
        wait_for(lambda: any("Traceback" in line and "FileNotFoundError" in line for line in served.lines), 5)
        assert served.work.under_way == 0


def test_nothing_is_left_on_the_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with serving() as served:
        for body in (CLIP, b"hello"):
            served.explain("?include=mp4", body=body)
        (folder,) = tmp_path.iterdir()
        assert [*folder.iterdir()] == []
        assert folder.stat().st_mode & 0o077 == 0
    assert [*tmp_path.iterdir()] == []


OWN, ELSEWHERE = {"Host": "localhost:8000"}, {"Host": "example.org"}
ACCESS: dict[str, tuple[dict[str, Any], list[tuple[dict[str, str], int]]]] = {
    "on loopback": (
        {},
        [
            (OWN, 200),
            ({"Host": "[::1]:8000"}, 200),
            (ELSEWHERE, 403),
            ({"Host": "localhost.example.org"}, 403),
            ({"Host": ""}, 403),
            ({**OWN, "Origin": "http://localhost:8000"}, 200),
            ({**OWN, "Origin": "https://example.org"}, 403),
            ({**OWN, "Origin": "null"}, 403),
        ],
    ),
    "on loopback, by a name": (
        {"hosts": ("maps.example.org",)},
        [
            ({"Host": "maps.example.org:443", "Origin": "https://maps.example.org:443"}, 200),
            (OWN, 200),
            (ELSEWHERE, 403),
        ],
    ),
    "elsewhere": ({"host": "0.0.0.0", "token": TOKEN}, [(ELSEWHERE, 401)]),
    "elsewhere, by a name": ({"host": "0.0.0.0", "token": TOKEN, "hosts": ("maps.example.org",)}, [(ELSEWHERE, 403)]),
    "with a token": (
        {"token": TOKEN},
        [
            ({"Authorization": f"Bearer {TOKEN}"}, 200),
            ({"Authorization": f"Bearer {TOKEN}0"}, 401),
            ({"Authorization": f"Basic {TOKEN}"}, 401),
            ({}, 401),
        ],
    ),
    "from a page": (
        {"origins": ("https://example.org",)},
        [({"Origin": "https://example.org"}, 200), ({"Origin": "https://example.com"}, 403)],
    ),
}


@pytest.mark.parametrize("case", ACCESS)
def test_who_may_ask(case: str) -> None:
    rules, requests = ACCESS[case]
    with serving(access=Access(**rules)) as served:
        for headers, status in requests:
            answer = served.explain(headers={**VIDEO, **headers})
            assert (headers, answer.status) == (headers, status)
            if status == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert TOKEN not in answer.error
                for path, expected in (
                    ("/health", 200),
                    ("/ready", 200),
                    ("/page.js", 200),
                    ("/about", 401),
                    ("/metrics", 401),
                ):
                    assert served.ask("GET", path, headers=headers).status == expected
            if "origins" in rules and status == 200:
                assert answer.headers["access-control-allow-origin"] == headers["Origin"]
                asked = {**headers, "Access-Control-Request-Method": "POST"}
                assert served.ask("OPTIONS", "/explain", headers=asked).status == 200
