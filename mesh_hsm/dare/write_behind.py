"""Write the last block while the next one is made: open this for how fast large files are written.

A second thread does nothing but write. Small outputs never start it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import BinaryIO

from mesh_hsm.dare.payload import BLOCK, Sink, write_all


@contextmanager
def write_behind(sink: BinaryIO) -> Iterator[Sink]:
    """A sink before ``sink``. At the end of the block everything has been written.

    An error of ``sink`` is raised at a later write, or at the end. After an exception in the block
    up to two blocks of what had been written before it are lost.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="write-behind") as worker:
        behind = _Behind(sink, worker)
        yield behind
        behind.finish()


class _Behind:
    def __init__(self, sink: BinaryIO, worker: ThreadPoolExecutor) -> None:
        self._sink = sink
        self._worker = worker
        self._filling = memoryview(bytearray(BLOCK))
        self._writing = memoryview(bytearray(BLOCK))
        self._filled = 0
        self._pending: Future[None] | None = None

    def write(self, octets: bytes | memoryview, /) -> int:
        done = 0
        while done < len(octets):
            part = octets[done : done + BLOCK - self._filled]
            self._filling[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            done += len(part)
            if self._filled == BLOCK:
                self._wait()
                self._pending = self._worker.submit(write_all, self._sink, self._filling)
                self._filling, self._writing = self._writing, self._filling
                self._filled = 0
        return done

    def finish(self) -> None:
        self._wait()
        write_all(self._sink, self._filling[: self._filled])

    def _wait(self) -> None:
        if self._pending is not None:
            self._pending.result()
            self._pending = None
