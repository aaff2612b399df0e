"""Tar members as bytes: POSIX ustar headers, with pax records for what those cannot hold.

The same member always gives the same bytes: no user names, no access times, records in a fixed
order, octal numbers only.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import quote_from_bytes

from unionfs.digest import Digest
from unionfs.tarball.header import BLOCK, PAX_LOCAL, SECOND
from unionfs.tarball.pax import Records

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_NAME_SIZE = 100
_ID_END = 1 << 21  # seven octal digits
_SIZE_END = 1 << 33  # eleven
_END = bytes(2 * BLOCK)


@dataclass(slots=True, kw_only=True)
class Member:
    """One member: *kind* is the type flag, *mtime_ns* nanoseconds since 1970, *size* bytes of data.

    *extra* are further pax records (a sparse file's).
    """

    kind: bytes
    name: bytes
    mode: int = 0
    uid: int = 0
    gid: int = 0
    size: int = 0
    mtime_ns: int = 0
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    extra: Records = field(default_factory=list)


class HashingWriter:
    """Passes bytes on to *out*, counting (``size``) and hashing them."""

    def __init__(self, out: BinaryIO) -> None:
        self.size = 0
        self._out = out
        self._hash = hashlib.sha256()

    def write(self, data: ReadableBuffer) -> int:
        """Write all of *data*; return its length. Raises OSError."""
        count = memoryview(data).nbytes
        self._hash.update(data)
        self._out.write(data)
        self.size += count
        return count

    def digest(self) -> Digest:
        """Return the digest of what was written so far."""
        return Digest("sha256", self._hash.hexdigest())


class TarWriter:
    """Writes members to *out* and hashes what it writes."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = HashingWriter(out)

    def add(self, member: Member) -> None:
        """Write the headers of *member*; its data is to follow through ``data`` and ``pad``."""
        records = _records(member)
        if records:
            body = b"".join(_record(key, value) for key, value in records)
            short = Member(kind=PAX_LOCAL, name=b"PaxHeaders/x", mode=0o644, size=len(body))
            self.data(member_header(short) + body)
            self.pad(len(body))
        self.data(member_header(member))

    def data(self, data: bytes) -> None:
        """Write *data* as it is. Raises OSError."""
        self._out.write(data)

    def pad(self, size: int) -> None:
        """Fill up the last block after *size* bytes of data."""
        if size % BLOCK:
            self.data(bytes(-size % BLOCK))

    def finish(self) -> Digest:
        """Write the end mark; return the digest of everything."""
        self.data(_END)
        return self._out.digest()


def _records(member: Member) -> Records:
    """Return the pax records that *member* needs."""
    found: Records = []
    if len(member.name) > _NAME_SIZE:
        found += _text(b"path", member.name)
    if len(member.link) > _NAME_SIZE:
        found += _text(b"linkpath", member.link)
    if member.uid >= _ID_END:
        found.append((b"uid", b"%d" % member.uid))
    if member.gid >= _ID_END:
        found.append((b"gid", b"%d" % member.gid))
    if member.size >= _SIZE_END:
        found.append((b"size", b"%d" % member.size))
    seconds, fraction = divmod(member.mtime_ns, SECOND)
    if fraction or not 0 <= seconds < _SIZE_END:
        found.append((b"mtime", _time(member.mtime_ns)))
    found += member.extra
    found += [_xattr(name, member.xattrs[name]) for name in sorted(member.xattrs)]
    return found


def _text(key: bytes, value: bytes) -> Records:
    """Return the record of a name; one that is not UTF-8 is declared to be plain bytes."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return [(b"hdrcharset", b"BINARY"), (key, value)]
    return [(key, value)]


def _xattr(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    if b"=" in name:  # star's form ends the name there
        encoded = base64.b64encode(value).rstrip(b"=")
        return b"LIBARCHIVE.xattr." + quote_from_bytes(name, safe=".").encode(), encoded
    return b"SCHILY.xattr." + name, value


def _time(nanoseconds: int) -> bytes:
    seconds, fraction = divmod(abs(nanoseconds), SECOND)
    text = b"%s%d" % (b"-" if nanoseconds < 0 else b"", seconds)
    return text + (b".%09d" % fraction).rstrip(b"0") if fraction else text


def _record(key: bytes, value: bytes) -> bytes:
    """Return one record; its length counts its own digits."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) + len(rest) != length:
        length += 1
    return b"%d%s" % (length, rest)


def _size(size: int, base256: bool) -> bytes:
    if size < _SIZE_END:
        return b"%011o\0" % size
    return b"\x80" + size.to_bytes(11, "big") if base256 else b"%011o\0" % 0


def member_header(member: Member, *, base256: bool = False) -> bytes:
    """Return the header of *member*, without the pax records that may have to come before it.

    A size beyond eleven octal digits is left to those, or, with *base256*, written as GNU does.
    """
    seconds = min(max(member.mtime_ns // SECOND, 0), _SIZE_END - 1)
    head = b"%s%07o\0%07o\0%07o\0%s%011o\0" % (
        member.name[:_NAME_SIZE].ljust(_NAME_SIZE, b"\0"),
        member.mode,
        member.uid if member.uid < _ID_END else 0,
        member.gid if member.gid < _ID_END else 0,
        _size(member.size, base256),
        seconds,
    )
    tail = b"%s%s%s%s%07o\0%07o\0" % (
        member.kind,
        member.link[:_NAME_SIZE].ljust(_NAME_SIZE, b"\0"),
        b"ustar\00000",
        bytes(64),  # the names of user and group: the numbers count
        member.major,
        member.minor,
    )
    total = sum(head) + sum(tail) + 8 * 0x20
    return (head + b"%06o\0 " % total + tail).ljust(BLOCK, b"\0")
