"""pax extended headers: records, numbers, times and extended attributes.

POSIX.1-2017 pax, "pax Extended Header"; attributes as star (``SCHILY.xattr.``) and libarchive
(``LIBARCHIVE.xattr.``: name percent-encoded, value in base64) write them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from unionfs.tarball.header import MAX_SECONDS, SECOND, Entry, TarFormatError

Records = list[tuple[bytes, bytes]]

_SCHILY = b"SCHILY.xattr."
_LIBARCHIVE = b"LIBARCHIVE.xattr."
_TIME = re.compile(rb"(-?)([0-9]{1,30})(?:\.([0-9]*))?")
_NUL_FREE = frozenset((b"path", b"linkpath", b"GNU.sparse.name"))


def parse_records(data: bytes) -> Records:
    """Return the (key, value) records of *data*, in order. Raises TarFormatError."""
    records = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 11)
        length = data[position:space] if space > 0 else b""
        if not length.isdigit():
            if not data[position:].strip(b"\0"):
                break  # padding inside the size, as some old writers leave it
            raise TarFormatError(f"bad pax record: {data[position : position + 40]!r}")
        end = position + int(length)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1] != 10 or not equals or not key:
            raise TarFormatError(f"bad pax record: {data[position : position + 40]!r}")
        records.append((key, value))
        position = end
    return records


def apply_records(entry: Entry, records: Records) -> None:
    """Change *entry* as *records* say; later ones win. Raises TarFormatError.

    Sparse maps are left to ``sparse``. Unknown keys are ignored, as POSIX wants.
    """
    for key, value in records:
        if key in _NUL_FREE and b"\0" in value:
            raise TarFormatError(f"pax record with a NUL byte in {key.decode()}: {value[:80]!r}")
        if key.startswith(_SCHILY):
            _add_xattr(entry, key[len(_SCHILY) :], value)
        elif value:
            _apply_standard(entry, key, value)
    if any(key.startswith(_LIBARCHIVE) for key, _ in records):
        _add_libarchive(entry, records)


def decimal(value: bytes) -> int:
    """Return the number that *value* spells in decimal. Raises TarFormatError."""
    if not value.isdigit() or len(value) > 30:
        raise TarFormatError(f"pax record with a bad number: {value[:40]!r}")
    return int(value)


def nanoseconds(value: bytes) -> int:
    """Return the nanoseconds of a pax time; digits beyond them are cut. Raises TarFormatError."""
    match = _TIME.fullmatch(value)
    if match is None:
        raise TarFormatError(f"pax record with a bad time: {value[:40]!r}")
    sign, seconds, fraction = match.groups()
    whole = min(int(seconds), MAX_SECONDS) * SECOND
    total = whole + int((fraction or b"")[:9].ljust(9, b"0"))
    return -total if sign else total


def _apply_standard(entry: Entry, key: bytes, value: bytes) -> None:
    if key == b"path":
        entry.name = value
    elif key == b"linkpath":
        entry.link = value
    elif key == b"mtime":
        entry.mtime_ns = nanoseconds(value)
    elif key == b"uid":
        entry.uid = decimal(value)
    elif key == b"gid":
        entry.gid = decimal(value)


def pax_size(records: Records) -> int | None:
    """Return the data size that *records* give, None if they do not. Raises TarFormatError."""
    found = None
    for key, value in records:
        if key == b"size" and value:
            found = decimal(value)
    return found


def _add_xattr(entry: Entry, name: bytes, value: bytes) -> None:
    if not name or b"\0" in name:
        raise TarFormatError(f"extended attribute with a bad name: {name[:80]!r}")
    if entry.xattrs is None:
        entry.xattrs = {}
    entry.xattrs[name] = value


def _add_libarchive(entry: Entry, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Add libarchive's attributes, except where star's form of the same one was there too."""
    for key, value in records:
        if key.startswith(_LIBARCHIVE):
            name = unquote_to_bytes(key[len(_LIBARCHIVE) :])
            if name not in (entry.xattrs or {}):
                _add_xattr(entry, name, _unbase64(value))


def _unbase64(value: bytes) -> bytes:
    try:
        return base64.b64decode(value + b"=" * (-len(value) % 4), validate=True)
    except binascii.Error:
        raise TarFormatError(f"extended attribute that is not base64: {value[:40]!r}") from None
