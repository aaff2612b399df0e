"""The uncompressed bytes of a tar: read ahead and hashed in a thread, consumed in pieces.

Decompressing and hashing release the interpreter's lock, so that they run beside the making of
files. The thread stops when the consumer closes the stream, whatever it was doing.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from unionfs.digest import Digest
from unionfs.tarball.header import TarFormatError
from unionfs.tarball.limits import Limits

if TYPE_CHECKING:
    from unionfs.tarball.recipe import Recorder

_CHUNK = 1 << 20
_AHEAD = 6  # chunks: what bounds memory
_POLL = 0.1  # seconds between looks at the stop flag while the queue is full


class ReadAhead:
    """Chunks of *source*, fetched and hashed by a thread of its own.

    ``_stop`` is set by the consumer and read by the thread; the hash belongs to the thread until
    ``next_chunk`` has returned the empty chunk.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tar-read-ahead", daemon=True)
        self._thread.start()

    def next_chunk(self) -> bytes:
        """Return the next chunk, empty at the end. Raises what reading the source raised."""
        chunk = self._queue.get()
        if isinstance(chunk, BaseException):
            raise chunk
        return chunk

    def digest(self) -> Digest:
        """Return the digest of everything; only after the empty chunk."""
        return Digest("sha256", self._hash.hexdigest())

    def close(self) -> None:
        """Stop the thread; at most 5 seconds for a source whose read does not come back."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _run(self) -> None:
        try:
            chunk = b"-"
            while chunk and not self._stop.is_set():
                chunk = self._source.read(_CHUNK)
                self._hash.update(chunk)
                self._put(chunk)
        except BaseException as error:  # handed over: raised again where the chunk is asked for
            self._put(error)

    def _put(self, item: bytes | BaseException) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL)
                break
            except queue.Full:
                pass


class TarStream:
    """Exact reads from a ReadAhead; ``offset`` counts the bytes consumed.

    ``recorder`` is told of all that is not copied to a file; of that, whoever knows the file's name
    tells it (``reader``).
    """

    def __init__(
        self,
        source: ReadAhead,
        limits: Limits,
        progress: Callable[[int], None] | None,
        recorder: Recorder | None = None,
    ) -> None:
        self.recorder = recorder
        self._source = source
        self._limits = limits
        self._progress = progress
        self._chunk = b""
        self._view = memoryview(b"")
        self._at = 0
        self._before = 0  # bytes of the chunks before this one
        self._ended = False

    @property
    def offset(self) -> int:
        """Bytes consumed so far."""
        return self._before + self._at

    def take(self, count: int) -> bytes:
        """Return the next *count* bytes, fewer only where the stream ends."""
        at, end = self._at, self._at + count
        if end <= len(self._chunk):
            self._at = end
            data = self._chunk[at:end]
        else:
            data = self._take_on(end - len(self._chunk))
        if self.recorder is not None:
            self.recorder.raw(data)
        return data

    def exactly(self, count: int) -> bytes:
        """Return the next *count* bytes. Raises TarFormatError if the stream ends before."""
        found = self.take(count)
        if len(found) != count:
            raise self._truncated()
        return found

    def copy_to(self, fd: int, count: int) -> int:
        """Write the next *count* bytes to *fd*; return their CRC-32, for the recorder, if any.

        Raises TarFormatError if they are not there.
        """
        crc = 0
        while count:
            if self._at == len(self._chunk) and not self._refill():
                raise self._truncated()
            at = self._at
            done = os.write(fd, self._view[at : at + count])
            if self.recorder is not None:
                crc = zlib.crc32(self._view[at : at + done], crc)
            self._at = at + done
            count -= done
        return crc

    def skip(self, count: int) -> None:
        """Pass over *count* bytes. Raises TarFormatError if they are not there."""
        while True:
            step = min(count, len(self._chunk) - self._at)
            self._record(self._at, self._at + step)
            self._at += step
            count -= step
            if not count:
                return
            if not self._refill():
                raise self._truncated()

    def drain(self) -> bool:
        """Read to the end; return whether anything but zero bytes was left."""
        garbage = self._chunk.count(0, self._at) != len(self._chunk) - self._at
        self._record(self._at, len(self._chunk))
        while self._refill():
            self._record(0, len(self._chunk))
            garbage = garbage or self._chunk.count(0) != len(self._chunk)
        return garbage

    def _take_on(self, missing: int) -> bytes:
        """Return the rest of the chunk and up to *missing* bytes of those that follow."""
        found = [self._chunk[self._at :]]
        while missing and self._refill():
            found.append(self._chunk[:missing])
            self._at = len(found[-1])
            missing -= self._at
        return b"".join(found)

    def _record(self, start: int, end: int) -> None:
        if self.recorder is not None and start < end:
            self.recorder.raw(self._chunk[start:end])

    def _refill(self) -> bool:
        """Go to the next chunk; return False at the end of the stream."""
        if self._ended:
            return False
        chunk = self._source.next_chunk()
        self._before += len(self._chunk)
        self._chunk, self._view, self._at = chunk, memoryview(chunk), 0
        self._ended = not chunk
        if self._before + len(chunk) > self._limits.max_bytes:
            raise self._limits.exceeded("max_bytes", "layer tar too long")
        if chunk and self._progress is not None:
            self._progress(len(chunk))
        return bool(chunk)

    def _truncated(self) -> TarFormatError:
        return TarFormatError(f"tar ends in the middle of an entry, after {self.offset} bytes")
