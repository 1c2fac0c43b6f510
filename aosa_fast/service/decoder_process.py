"""The process that decodes uploads: `python -m aosa_fast.service.decoder_process`, with its orders on stdin.

What comes from outside may make FFmpeg or Pillow hang, crash or swell: here that costs one request. torch is not
loaded, unless a model's own preprocessing does it.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import os
import pickle
import signal
import sys
import threading
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from aosa_fast.boundary import open_file, reading
from aosa_fast.errors import InputError, ModelError, VideoError, describe_error
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.models.views import views_of
from aosa_fast.processes import end_with
from aosa_fast.service.settings import Limits
from aosa_fast.streams.messages import receive, send
from aosa_fast.video import images, pyav_reader
from aosa_fast.video.clip import DEFAULT_FPS, Convert, VideoClip, Window, check_pixels, join_frames

if sys.platform != "win32":
    import resource

ARRAY = "application/x-npy"
_FILES = 16  # that may be open at once
_PICTURES = (b"GIF8", b"\x89PNG", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
_NO_NEW_PRIVS = 38  # of prctl


def main() -> None:
    """Decodes what it is told to, until nobody tells it anything."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent, orders, channel = int(sys.argv[1]), os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # whatever a library prints is no message, and what it reads no order
        os.dup2(nothing, descriptor)
    os.close(nothing)
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    with suppress(BrokenPipeError):
        try:
            message = receive(orders, None)
            if message is None:
                return
            preprocessing, window, limits = pickle.loads(message[1].tobytes())
        except Exception as error:  # noqa: BLE001 - a model's own preprocessing may be any code
            send(channel, {"kind": "failed", "reason": describe_error(error)})
            return
        Image.init()
        with suppress(InputError):  # loads what it needs
            preprocessing.cropped(np.zeros((1, 2 * preprocessing.crop[0], 2 * preprocessing.crop[1], 3), np.uint8))
        largest = _confine(limits)
        gc.freeze()
        send(channel, {"kind": "ready"})
        last = False
        while not last and (message := receive(orders, None)):
            last = _answer(channel, message[0], preprocessing, window, limits, largest)
            # A frame of PyAV and its side data hold each other: 0.1 MB an upload, which a process that makes few other
            # objects would hardly ever look for.
            gc.collect()


def _confine(limits: Limits) -> int:
    """Gives up what decoding does not need, and returns how large this process may be when idle, in bytes."""
    size, most = _size(), limits.decode_memory << 20
    bounds = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_NOFILE: _FILES, resource.RLIMIT_CORE: 0}
    if sys.platform == "linux":
        bounds[resource.RLIMIT_AS] = size + most
        ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))
    return size + most // 4


def _answer(
    channel: int, facts: dict[str, Any], preprocessing: Preprocessing, window: Window, limits: Limits, largest: int
) -> bool:
    """Sends what a file holds, or why it cannot be used; returns whether another process must take this one's place."""
    path = facts["path"]
    # Whoever started this may have been killed, and a decoder may hang with the interpreter in its hands.
    faulthandler.dump_traceback_later(limits.decode_timeout + 1, exit=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            clip, cropped, display = views_of(preprocessing, partial(_read, path, facts["media"], window))
    except (InputError, MemoryError, OSError) as error:
        last = _is_memory(error)
        text = f"{path}: must be decodable with {limits.decode_memory} MiB of memory" if last else str(error)
        send(channel, {"kind": "failed", "reason": text, "last": last, "model": isinstance(error, ModelError)})
        return last
    finally:
        faulthandler.cancel_dump_traceback_later()
    last = _size() > largest
    source = {**clip.facts, "height": clip.size[0], "width": clip.size[1]}
    send(channel, {"kind": "pictures", "shape": cropped.shape}, cropped)
    send(channel, {"kind": "display", "shape": display.shape, "facts": source, "last": last}, display)
    return last


def _read(path: str, media: str, window: Window, convert: Convert) -> VideoClip:
    with reading(path, "must be a video, an image or frames in one piece", VideoError):
        if media == ARRAY:
            return _read_array(path, window, convert)
        if os.path.isdir(path):
            return images.read_folder(path, window, convert)
        with open_file(path) as file:
            head = file.read(12)
        if head.startswith(_PICTURES) or (head[:4] == b"RIFF" and head[8:] == b"WEBP"):
            return images.read_file(path, window, convert)
        return pyav_reader.read(path, window, convert)


def _read_array(path: str, window: Window, convert: Convert) -> VideoClip:
    """Reads frames of an .npy file, of which no more than these comes into memory, whatever its header claims."""
    with open_file(path) as file:
        frames = np.lib.format.open_memmap(file.name, mode="r")
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3 or not frames.size:
        raise VideoError(path, f"must be frames (T, H, W, 3) of uint8; got {frames.dtype} {frames.shape}")
    height, width = frames.shape[1:3]
    window.bounds.check_length(path, len(frames))
    check_pixels(path, height, width, bounds=window.bounds)
    times = [i / DEFAULT_FPS for i in range(len(frames))]
    places = window.choose(path, times, DEFAULT_FPS)
    kept = [convert(np.ascontiguousarray(frames[place])) for place in places]
    return VideoClip.of(join_frames(kept), (height, width), places, times, DEFAULT_FPS, path, "npy")


def _size() -> int:
    """Bytes of address space that this process has; 0 where nobody says."""
    if sys.platform != "linux":
        return 0
    return int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()


def _is_memory(error: BaseException | None) -> bool:
    """Whether an error came of there being no memory."""
    while error is not None:
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if "nsufficient memory" in str(error) or "annot allocate memory" in str(error):  # OpenCV; a reason of ours
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    main()
