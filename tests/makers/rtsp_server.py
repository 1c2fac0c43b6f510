"""As much of RTSP as a player needs: `rtsp_server.py PORT WIDTH HEIGHT` sends H.264 over the TCP connection itself."""

from __future__ import annotations

import re
import socket
import struct
import sys
import time
from contextlib import suppress
from typing import Any

import av
from live_server import picture

_FPS = 25
_SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=test
t=0 0
m=video 0 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1
a=control:track0
""".replace("\n", "\r\n")


def serve(port: int, width: int, height: int) -> None:
    """One client after the other, for ever."""
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            client, _ = server.accept()
            with client, suppress(OSError):
                answer(client, width, height)


def answer(client: socket.socket, width: int, height: int) -> None:
    lines = client.makefile("r", newline="\r\n")
    for first in lines:
        headers = dict(line.strip().lower().split(": ", 1) for line in iter(lines.readline, "\r\n"))
        method = first.split()[0]
        more = {
            "OPTIONS": "Public: OPTIONS, DESCRIBE, SETUP, PLAY\r\n",
            "DESCRIBE": f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n",
            "SETUP": "Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n",
            "PLAY": "Session: 1\r\n",
        }.get(method, "")
        body = _SDP if method == "DESCRIBE" else ""
        client.sendall(f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{more}\r\n{body}".encode())
        if method == "PLAY":
            play(client, width, height)


def play(client: socket.socket, width: int, height: int) -> None:
    encoder: Any = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.framerate = width, height, "yuv420p", _FPS
    encoder.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "10"}
    start, sequence, number = time.monotonic(), 0, 0
    while True:
        time.sleep(max(0.0, start + number / _FPS - time.monotonic()))
        for packet in encoder.encode(av.VideoFrame.from_ndarray(picture(number, width, height), "rgb24")):
            units = [unit for unit in re.split(rb"\x00?\x00\x00\x01", bytes(packet)) if unit]
            for unit in units:
                # The marker says that the frame is complete.
                kind = 96 | (0x80 if unit is units[-1] else 0)
                rtp = struct.pack(">BBHII", 0x80, kind, sequence & 0xFFFF, number * 90000 // _FPS, 1) + unit
                client.sendall(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)
                sequence += 1
        number += 1


if __name__ == "__main__":
    serve(*map(int, sys.argv[1:]))
