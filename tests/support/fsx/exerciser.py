"""Performing operations on files and on the model of them, and comparing."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import mmap
import os
import random
from collections.abc import Callable
from typing import Any

from tests.support import kernel
from tests.support.fsx.ops import LIMIT, OPENERS, PAGE, Op, sectors

_PATTERN = random.Random(0).randbytes(2 * LIMIT)
_MODES = (
    os.O_RDONLY,
    os.O_RDWR,
    os.O_RDWR | os.O_APPEND,
    os.O_RDWR | os.O_DIRECT,
    os.O_RDONLY | os.O_DIRECT,
    os.O_WRONLY,
)
_APPENDER, _DIRECT_WRITER = 2, 3
_WRITERS = (1, 1, 5, 5, 1)  # for each opener of an operation, the one to write by
_KEEP_SIZE, _PUNCH, _COLLAPSE, _ZERO, _INSERT = 1, 2, 8, 16, 32  # linux/falloc.h
_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Mismatch(Exception):
    """The file is not what the model says."""


class Subject:
    """One file under test: its model, and who has it open or mapped.

    ``names`` are all its names; none is left of a removed file, which goes on by its openers.
    """

    def __init__(self, names: list[bytes], content: bytes) -> None:
        self.names = names
        self.model = bytearray(content)
        self.fds: dict[int, int] = {}
        self.maps: dict[int, mmap.mmap] = {}

    def fd(self, who: int) -> int:
        """Return the descriptor of opener *who*, opened now if it is not yet."""
        fd = self.fds.get(who)
        if fd is None:
            fd = self.fds[who] = os.open(self.where(), _MODES[who] | os.O_CLOEXEC)
        return fd

    def where(self) -> bytes:
        """Return a path that leads to the file."""
        if self.names:
            return self.names[0]
        return b"/proc/self/fd/%d" % next(iter(self.fds.values()))

    def mapping(self, slot: int, fd: int) -> mmap.mmap:
        """Return a shared mapping that may have been made long ago, or one of the whole file."""
        found = self.maps.get(slot)
        if found is None:
            found = self.maps[slot] = mmap.mmap(fd, len(self.model))
        return found

    def before_growing(self, at: int, end: int) -> None:
        """Before a write from *at* to *end*: have a mapping's changes of the last page written.

        Otherwise the kernel may lose bytes of it: see ``kernel.loses_what_grows``.
        """
        size = len(self.model)
        if self.maps and at < -(-size // PAGE) * PAGE and size < end and kernel.loses_what_grows():
            kernel.write_back(self.fd(1))

    def resize(self, size: int) -> None:
        """Let the model be *size* bytes long."""
        model = self.model
        if size < len(model):
            del model[size:]
        else:
            model.extend(bytes(size - len(model)))

    def put(self, at: int, data: bytes) -> None:
        """Write to the model; nothing extends nothing."""
        if not data:
            return
        if at > len(self.model):
            self.resize(at)
        self.model[at : at + len(data)] = data


class Exerciser:
    """Performs operations one after the other on *subjects*. Raises Mismatch and OSError.

    ``done`` counts what was performed, by kind; what the filesystem says it does not support
    (EOPNOTSUPP of fallocate(2)) is not.
    """

    def __init__(self, subjects: list[Subject]) -> None:
        self.subjects = subjects
        self.done: dict[str, int] = {}
        self._kinds: dict[str, Callable[[Subject, Op], Any]] = {}
        self._buffer = mmap.mmap(-1, LIMIT)  # at the beginning of a page, as O_DIRECT wants it
        self._pipe = os.pipe()

    def perform(self, op: Op) -> None:
        """Perform *op* and compare what it gives."""
        kind = op.kind
        method = self._kinds.get(kind)
        if method is None:
            method = self._kinds[kind] = getattr(self, "_" + kind)
        if method(self.subjects[op.file], op) is not False:
            self.done[kind] = self.done.get(kind, 0) + 1

    # --- what reads ------------------------------------------------------------------------------

    def _same(self, subject: Subject, at: int, got: bytes, wanted: int) -> None:
        """Compare *got*, read from *at*, with the model, of which *wanted* bytes were asked for."""
        expected = subject.model[at : at + wanted]
        if got != expected:
            raise Mismatch(_difference(at, got, expected))

    def _read(self, subject: Subject, op: Op) -> None:
        got = os.pread(subject.fd(0 if op.who > 2 else op.who), op.size, op.at)
        if got != subject.model[op.at : op.at + op.size]:
            self._same(subject, op.at, got, op.size)

    def _direct_read(self, subject: Subject, op: Op) -> None:
        at, size = sectors(op.at, op.size + 511)
        fd = subject.fd(4 if op.who < 3 else op.who)
        count = os.preadv(fd, [memoryview(self._buffer)[:size]], at)
        self._same(subject, at, self._buffer[:count], size)

    def _map_read(self, subject: Subject, op: Op) -> None:
        """Compare a part of a mapping, and that what is behind the end in its page is zero."""
        if not subject.model:
            return
        size = len(subject.model)
        mapping = subject.mapping(op.who & 1, subject.fd(1))
        at = op.at % size
        end = min(at + op.size, len(mapping), size)
        if at < end:
            self._same(subject, at, mapping[at:end], end - at)
        tail = mapping[size : min(len(mapping), -(-size // PAGE) * PAGE)]
        if tail.strip(b"\0"):
            raise Mismatch(f"behind the end, at {size}, a mapping shows {tail[:16]!r}")

    def _private_map(self, subject: Subject, op: Op) -> None:
        """Compare a private mapping made now; what is written into it stays in it."""
        if not subject.model:
            return
        flags, protection = mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE
        with mmap.mmap(subject.fd(0), len(subject.model), flags, protection) as mapping:
            at = op.at % len(mapping)
            self._same(subject, at, mapping[at : at + op.size], op.size)
            mapping[at : at + 5] = b"noise"[: len(mapping) - at]

    def _splice(self, subject: Subject, op: Op) -> None:
        source, sink = self._pipe
        count = os.splice(subject.fd(op.who % 3), sink, min(op.size, 65536), offset_src=op.at)
        got = b""
        while len(got) < count:
            got += os.read(source, count - len(got))
        if not got and op.at < len(subject.model):
            raise Mismatch(f"splice gives nothing at {op.at}")
        self._same(subject, op.at, got, len(got))

    def _stat(self, subject: Subject, op: Op) -> None:
        for target in (subject.fd(op.who), subject.where()):
            size = os.stat(target).st_size
            if size != len(subject.model):
                raise Mismatch(f"the size is {size} rather than {len(subject.model)}")

    def _seek(self, subject: Subject, op: Op) -> None:
        """Whatever is said to be a hole must be zero, and data must be found before the end."""
        fd, size = subject.fd(op.who), len(subject.model)
        at = op.at % (size + 1)
        try:
            data = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            data = size
        if any(subject.model[at:data]) or data < at:
            raise Mismatch(f"SEEK_DATA from {at} goes to {data}, past data")
        if at < size and not at <= os.lseek(fd, at, os.SEEK_HOLE) <= size:
            raise Mismatch(f"SEEK_HOLE from {at} is beyond the end")

    def _drop(self, subject: Subject, op: Op) -> None:
        """Drop the clean pages, so that the next reads ask the filesystem."""
        fd = subject.fd(op.who)
        if op.fill % 2:
            os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def _reopen(self, subject: Subject, op: Op) -> None:
        if len(subject.fds) > 1 or subject.names:
            fd = subject.fds.pop(op.who, -1)
            if fd >= 0:
                os.close(fd)
        subject.fd(op.who)

    def _unmap(self, subject: Subject, op: Op) -> None:
        mapping = subject.maps.pop(op.who & 1, None)
        if mapping is not None:
            mapping.close()

    # --- what writes -----------------------------------------------------------------------------

    def _write(self, subject: Subject, op: Op) -> None:
        data = _PATTERN[op.fill : op.fill + op.size]
        subject.before_growing(op.at, op.at + len(data))
        count = os.pwrite(subject.fd(_WRITERS[op.who]), data, op.at)
        subject.put(op.at, data)
        _all(count, len(data))

    def _append(self, subject: Subject, op: Op) -> None:
        at = len(subject.model)
        data = _PATTERN[op.fill : op.fill + min(op.size, LIMIT - at)]
        subject.before_growing(at, at + len(data))
        count = os.write(subject.fd(_APPENDER), data)
        subject.put(at, data)
        _all(count, len(data))

    def _direct_write(self, subject: Subject, op: Op) -> None:
        at, size = sectors(op.at, op.size)
        self._buffer[:size] = _PATTERN[op.fill : op.fill + size]
        subject.before_growing(at, at + size)
        count = os.pwritev(subject.fd(_DIRECT_WRITER), [memoryview(self._buffer)[:size]], at)
        subject.put(at, self._buffer[:size])
        _all(count, size)

    def _map_write(self, subject: Subject, op: Op) -> None:
        if not subject.model:
            return
        mapping = subject.mapping(op.who & 1, subject.fd(1))
        at = op.at % len(subject.model)
        end = min(at + op.size, len(mapping), len(subject.model))
        if at < end:
            data = _PATTERN[op.fill : op.fill + end - at]
            mapping[at:end] = data
            subject.put(at, data)

    def _truncate(self, subject: Subject, op: Op) -> None:
        target = subject.where() if op.who == 0 else subject.fd(1)
        os.truncate(target, op.at)
        subject.resize(op.at)

    def _truncate_open(self, subject: Subject, op: Op) -> None:
        os.close(os.open(subject.where(), os.O_RDWR | os.O_TRUNC | os.O_CLOEXEC))
        subject.resize(0)

    def _copy_range(self, subject: Subject, op: Op) -> None:
        """Copy within the file where that does not overlap, else from the first file to this."""
        source = subject if op.who & 1 else self.subjects[0]
        start = op.fill
        data = bytes(source.model[start : start + op.size])
        if source is subject and start < op.at + len(data) and op.at < start + len(data):
            return
        subject.before_growing(op.at, op.at + len(data))
        done = 0
        while done < len(data):
            left = len(data) - done
            count = os.copy_file_range(
                source.fd(0), subject.fd(1), left, start + done, op.at + done
            )
            if count == 0:
                raise Mismatch(f"copy_file_range stops after {done} of {len(data)} bytes")
            done += count
        subject.put(op.at, data)

    def _sync(self, subject: Subject, op: Op) -> None:
        mapping = subject.maps.get(op.who & 1)
        if op.fill % 3 == 0 and mapping is not None:
            mapping.flush()
        elif op.fill % 3 == 1:
            os.fdatasync(subject.fd(op.who))
        else:
            os.fsync(subject.fd(op.who))

    def _names(self, subject: Subject, op: Op) -> None:
        """Do what copies a lower file up without touching its content."""
        path = subject.where()
        variant = op.fill % (5 if subject.names else 3)
        if variant == 0:
            os.chmod(path, 0o600 | op.fill & 0o77)
        elif variant == 1:
            os.utime(path, ns=(op.fill, op.fill))
        elif variant == 2:
            os.setxattr(path, "user.fsx", b"%d" % op.fill)
        elif variant == 3:
            os.link(path, path + b"~")
            os.unlink(path + b"~")
        else:
            os.rename(path, path + b"~")
            os.rename(path + b"~", path)

    def _remove(self, subject: Subject, op: Op) -> None:
        """Take all names away; whoever has the file open goes on."""
        subject.fd(0)
        while subject.names:
            os.unlink(subject.names.pop())

    # --- fallocate(2) ----------------------------------------------------------------------------

    def _fallocate(self, subject: Subject, mode: int, at: int, size: int) -> bool:
        """Return whether the filesystem could do that."""
        if _libc.fallocate(subject.fd(1), mode, at, size) == 0:
            return True
        number = ctypes.get_errno()
        if number != errno.EOPNOTSUPP:
            raise OSError(number, os.strerror(number))
        return False

    def _allocate(self, subject: Subject, op: Op) -> bool:
        mode = _KEEP_SIZE if op.who & 1 else 0
        done = self._fallocate(subject, mode, op.at, op.size)
        if done and not mode:
            subject.resize(max(len(subject.model), op.at + op.size))
        return done

    def _punch(self, subject: Subject, op: Op) -> bool:
        done = self._fallocate(subject, _PUNCH | _KEEP_SIZE, op.at, op.size)
        end = min(op.at + op.size, len(subject.model))
        if done and op.at < end:
            subject.put(op.at, bytes(end - op.at))
        return done

    def _zero(self, subject: Subject, op: Op) -> bool:
        done = self._fallocate(subject, _ZERO, op.at, op.size)
        if done:
            subject.put(op.at, bytes(op.size))
        return done

    def _collapse(self, subject: Subject, op: Op) -> bool:
        at, size = op.at // PAGE * PAGE, -(-op.size // PAGE) * PAGE
        if at + size >= len(subject.model):
            return False
        done = self._fallocate(subject, _COLLAPSE, at, size)
        if done:
            del subject.model[at : at + size]
        return done

    def _insert(self, subject: Subject, op: Op) -> bool:
        at, size = op.at // PAGE * PAGE, -(-op.size // PAGE) * PAGE
        if at >= len(subject.model) or len(subject.model) + size > LIMIT:
            return False
        done = self._fallocate(subject, _INSERT, at, size)
        if done:
            subject.model[at:at] = bytes(size)
        return done

    # --- the end ---------------------------------------------------------------------------------

    def finish(self) -> list[str | None]:
        """Compare everything once more through every opener; close; return digests of the models.

        None for a file without names.
        """
        found: list[str | None] = []
        for number, subject in enumerate(self.subjects):
            for who in range(OPENERS):
                self._stat(subject, Op("stat", number, who, 0, 0, 0))
                self._direct_read(subject, Op("direct_read", number, who, 0, LIMIT, 0))
                if who < _DIRECT_WRITER:
                    self._read(subject, Op("read", number, who, 0, LIMIT, 0))
            self._map_read(subject, Op("map_read", number, 0, 0, LIMIT, 0))
            for mapping in subject.maps.values():
                mapping.close()
            for fd in subject.fds.values():
                os.close(fd)
            found.append(hashlib.sha256(subject.model).hexdigest() if subject.names else None)
        return found


def _all(count: int, wanted: int) -> None:
    if count != wanted:
        raise Mismatch(f"{count} bytes written of {wanted}")


def _difference(at: int, got: bytes, expected: bytes | bytearray) -> str:
    """Say where two contents begin to differ."""
    if len(got) != len(expected):
        return f"{len(got)} bytes from {at} rather than {len(expected)}"
    pairs = enumerate(zip(got, expected, strict=True))
    first = next(number for number, (one, other) in pairs if one != other)
    count = sum(one != other for one, other in zip(got, expected, strict=True))
    mine, theirs = got[first : first + 16], bytes(expected[first : first + 16])
    return f"{count} bytes differ from {at + first} on: {mine!r} rather than {theirs!r}"
