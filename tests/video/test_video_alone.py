"""A file that names other files or addresses is read alone: whoever made it must not choose what else is opened."""

from __future__ import annotations

import http.server
import struct
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from aosa_fast.errors import VideoError
from aosa_fast.video import read_clip
from numbered_clips import write_clip


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and what it has been asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}", asked
        made.shutdown()


def playlist(segment: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{segment}\n#EXT-X-ENDLIST\n".encode()


def alias_to(name: bytes, path: Path) -> bytes:
    """A QuickTime file whose frames lie in the file of this name beside it, as an alias record says."""
    data = write_clip(path, 8).read_bytes()
    record = struct.pack(">HH", 2, len(name) + 2) + b"v:" + name + bytes(len(name) % 2) + b"\xff\xff\0\0"
    body = bytes(10) + b"\1" + b"v".ljust(27, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    body += bytes(16) + struct.pack(">HH", 1, 1) + bytes(16) + record
    alias = struct.pack(">I4sI", len(body) + 12, b"alis", 0) + body
    place = data.index(b"url ", data.index(b"dref")) - 4
    changed = bytearray(data[:place] + alias + data[place + 12 :])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        at = changed.rindex(box) - 4
        changed[at : at + 4] = struct.pack(">I", struct.unpack(">I", changed[at : at + 4])[0] + len(alias) - 12)
    media = changed.index(b"mdat") + 4
    size = struct.unpack(">I", changed[media - 8 : media - 4])[0] - 8
    changed[media : media + size] = bytes(size)
    return bytes(changed)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, server: tuple[str, list[str]]) -> Path:
    """Files that name others: one beside them, or one of the server's."""
    folder = tmp_path_factory.mktemp("folder")
    secret, address = write_clip(folder / "secret.mov", 8), server[0]
    session = b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 26\n"
    files = {
        "near.m3u8": playlist("secret.mov"),
        "absolute.m3u8": playlist(str(secret)),
        "far.m3u8": playlist(f"{address}/a.ts"),
        "list.mp4": b"ffconcat version 1.0\nfile secret.mov\n",
        "session.sdp": session,
        "alias.mov": alias_to(b"secret.mov", folder / "whole.mov"),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    with tarfile.open(folder / "files.tar", "w") as archive:
        for name in files:
            archive.add(folder / name, name)
    return folder


NAMES = ["near.m3u8", "absolute.m3u8", "far.m3u8", "list.mp4", "session.sdp", "alias.mov"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_opened_that_a_file_names(folder, server, name):
    server[1].clear()
    with pytest.raises(VideoError, match=r"must (be a video file, complete from its start|have a frame)"):
        read_clip(folder / name, 4)
    with tarfile.open(folder / "files.tar") as archive:
        member = archive.getmember(name)
    with pytest.raises(VideoError, match=r"must (be a video file, complete from its start|have a frame)"):
        read_clip(f"{folder}/files.tar#{member.offset_data}+{member.size}/{name}", 4)
    assert server[1] == []


def test_ffmpeg_would_open_them(folder, server):
    """Or what is tested above would say nothing."""
    for name, options in [
        ("near.m3u8", {}),
        ("absolute.m3u8", {}),
        ("list.mp4", {}),
        ("alias.mov", {"enable_drefs": "1"}),
    ]:
        with av.open(str(folder / name), options=options) as container:
            assert len(list(container.decode(video=0))) == 8
    with (folder / "far.m3u8").open("rb") as file, pytest.raises(av.error.FFmpegError):
        av.open(file)
    assert server[1] == ["/a.ts"]
