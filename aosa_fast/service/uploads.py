"""What comes from outside is decoded in processes of their own, which hostile files may hang, crash or swell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from aosa_fast.errors import InputError, ModelError
from aosa_fast.models.preprocess import Preprocessing
from aosa_fast.service.errors import OverloadedError, RequestError
from aosa_fast.service.guard import Decoder, GoneError
from aosa_fast.service.settings import Limits
from aosa_fast.video.clip import Bounds, Window

Made = TypeVar("Made")

_AGAIN = 1.0  # seconds until a process that could not be started is tried again


@dataclass(frozen=True, eq=False)
class Upload:
    """What a model sees of a clip that came from outside.

    Attributes:
        pictures: (T, H, W, 3) uint8, the model's input.
        display: (T, H', W', 3) uint8, the same part in its own resolution, no side longer than 1280.
        facts: plain values: reader, height, width, frame_indices, frame_times, total_frames, fps, damaged_packets,
            replaced_frames.
    """

    pictures: NDArray[np.uint8]
    display: NDArray[np.uint8]
    facts: dict[str, Any]


class Decoders:
    """Processes that decode uploads, started beforehand; one that ends, or is ended, is replaced at once.

    For one event loop, which is never blocked.
    """

    def __init__(self, preprocessing: Preprocessing, limits: Limits, *, start: str = "center") -> None:
        """Starts nothing yet.

        Args:
            preprocessing: of the model.
            limits: of an upload.
            start: which frames are taken of it, as for `read_clip`.

        Raises:
            InputError: `start` is none.
        """
        # Each thread of a decoder would take memory, of which there is little, and there are other processes.
        bounds = Bounds(int(limits.megapixels * 1e6), limits.frames, limits.seconds, threads=1)
        window = replace(Window.parse(preprocessing.frames, preprocessing.stride, start), bounds=bounds)
        self._preprocessing, self._window, self._limits = preprocessing, window, limits
        self._idle: asyncio.Queue[Decoder] = asyncio.Queue()
        self._all: set[Decoder] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        # Each process is waited for by one thread, and may be replaced while another one reads its end.
        self._threads = ThreadPoolExecutor(2 * limits.decoders, thread_name_prefix="aosa_fast-decoder")
        self._begun = self._closed = False

    @property
    def ready(self) -> bool:
        """Whether there is a process that decodes."""
        return self._begun and not self._closed and any(decoder.alive for decoder in self._all)

    @property
    def pids(self) -> list[int]:
        """Of the processes."""
        return [decoder.pid for decoder in self._all]

    async def start(self) -> None:
        """Starts the processes, and waits until they are ready.

        Raises:
            InputError: they cannot be started.
        """
        try:
            await asyncio.gather(*(asyncio.shield(self._task(self._add())) for _ in range(self._limits.decoders)))
        except InputError:
            await self.close()
            raise
        self._begun = True

    async def close(self) -> None:
        """Ends the processes; what is being decoded fails."""
        self._closed = True
        while self._all or self._tasks:
            for decoder in self._all:
                decoder.kill()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*(self._in_thread(decoder.close) for decoder in self._all))
            self._all.clear()
        self._threads.shutdown(wait=False)

    async def decode(self, path: Path, media_type: str) -> Upload:
        """Decodes a file, or a folder of pictures.

        A process that takes longer than it may, or for which nobody waits any more, is killed.

        Args:
            path: of the file or folder.
            media_type: "application/x-npy" for frames in an array; else the content says what it is.

        Raises:
            RequestError: 422, the clip cannot be used; 500, the model's own preprocessing failed; 504, no process was
                free in time.
            OverloadedError: the processes are being ended.
        """
        decoder = await self._take()
        call = self._in_thread(decoder.decode, str(path), media_type)
        sound = False
        try:
            async with asyncio.timeout(self._limits.decode_timeout):
                upload = Upload(*await call)
            sound = True
            return upload
        except TimeoutError:
            raise RequestError(422, f"clip: must be decodable in {self._limits.decode_timeout:g} s") from None
        except InputError as error:
            sound = True
            status = 500 if isinstance(error, ModelError) else 422
            raise RequestError(status, str(error).replace(str(path), "clip")) from None
        except GoneError as error:
            if self._closed:
                raise OverloadedError("the service is being closed") from None
            raise RequestError(422, f"clip: must be decodable; {error}") from None
        finally:
            self._give_back(decoder, sound)

    async def _take(self) -> Decoder:
        try:
            async with asyncio.timeout(self._limits.timeout):
                while not self._closed:
                    decoder = await self._idle.get()
                    if decoder.alive:
                        return decoder
                    self._give_back(decoder, False)
        except TimeoutError:
            raise RequestError(504, f"no decoder was free for {self._limits.timeout:g} s") from None
        raise OverloadedError("the service is being closed")

    def _give_back(self, decoder: Decoder, sound: bool) -> None:
        if self._closed:
            return
        if sound and decoder.alive:
            self._idle.put_nowait(decoder)
            return
        decoder.kill()
        self._all.discard(decoder)
        self._task(self._replace(decoder))

    async def _replace(self, decoder: Decoder) -> None:
        await self._in_thread(decoder.close)
        while not self._closed:
            try:
                await self._add()
            except InputError:
                await asyncio.sleep(_AGAIN)
            else:
                return

    async def _add(self) -> None:
        decoder = await self._in_thread(Decoder, self._preprocessing, self._window, self._limits)
        self._all.add(decoder)
        if self._closed:
            return
        try:
            await self._in_thread(decoder.begin)
        except InputError:
            self._all.discard(decoder)
            await self._in_thread(decoder.close)
            raise
        self._idle.put_nowait(decoder)

    def _in_thread(self, work: Callable[..., Made], *arguments: Any) -> asyncio.Future[Made]:
        return asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
