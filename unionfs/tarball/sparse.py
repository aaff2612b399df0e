"""Maps of sparse files: old GNU, and GNU's pax formats 0.0, 0.1 and 1.0 (GNU tar manual, D.2).

A map lists the (offset, length) stretches whose bytes the archive holds, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable

from unionfs.tarball.header import BLOCK, Entry, TarFormatError, number, shown
from unionfs.tarball.pax import Records, decimal

Map = list[tuple[int, int]]

_PREFIX = b"GNU.sparse."


def old_gnu_map(header: bytes, more: Callable[[], bytes]) -> tuple[int, Map]:
    """Return real size and map of an ``S`` entry; *more* reads the next extension block.

    Raises TarFormatError.
    """
    found = _pairs(header[386:482])
    extended = header[482]
    while extended:
        block = more()
        found += _pairs(block[:504])
        extended = block[504]
    return number(header[483:495]), found


def pax_map(records: Records) -> tuple[int, Map | None] | None:
    """Return real size and map of a sparse file described in pax *records*.

    None if they describe none; a map of None if it stands before the data (format 1.0).
    Raises TarFormatError.
    """
    values = {key[len(_PREFIX) :]: value for key, value in records if key.startswith(_PREFIX)}
    size = values.get(b"realsize", values.get(b"size"))
    if size is None:
        return None
    if (values.get(b"major"), values.get(b"minor")) == (b"1", b"0"):
        return decimal(size), None
    if b"map" in values:
        numbers = [decimal(word) for word in values[b"map"].split(b",")] if values[b"map"] else []
    else:
        wanted = (_PREFIX + b"offset", _PREFIX + b"numbytes")
        numbers = [decimal(value) for key, value in records if key in wanted]
    return decimal(size), _paired(numbers)


def pax_name(records: Records) -> bytes | None:
    """Return the name that a sparse file has instead of the one in its header, if any."""
    return dict(records).get(_PREFIX + b"name")


def leading_map(more: Callable[[], bytes]) -> Map:
    """Return the map that format 1.0 puts before the data; *more* reads the next data block.

    It is a list of decimal lines, the first of which counts the pairs. Raises TarFormatError.
    """
    blocks = bytearray()
    lines = wanted = 0
    while not wanted or lines < wanted:
        block = more()
        blocks += block
        lines += block.count(b"\n")
        if not wanted and lines:
            wanted = 1 + 2 * decimal(bytes(blocks.partition(b"\n")[0]))
        elif not lines and len(blocks) > BLOCK:
            raise TarFormatError("sparse map without a count")
    return _paired([decimal(word) for word in bytes(blocks).split(b"\n")[1:wanted]])


def check(entry: Entry) -> None:
    """Refuse a map whose stretches overlap, go backwards, leave the file or miss the data.

    Raises TarFormatError.
    """
    position = total = 0
    for offset, length in entry.sparse or ():
        if offset < position or length < 0 or offset + length > entry.real_size:
            raise TarFormatError(f"tar entry {shown(entry.name)} has an impossible sparse map")
        position = offset + length
        total += length
    if total != entry.size:
        raise TarFormatError(
            f"tar entry {shown(entry.name)}: its sparse map does not match its data"
        )


def _pairs(field: bytes) -> Map:
    """Return the used pairs of 12-byte numbers in *field*."""
    found = []
    for at in range(0, len(field) - 23, 24):
        if not field[at]:
            break
        found.append((number(field[at : at + 12]), number(field[at + 12 : at + 24])))
    return found


def _paired(numbers: list[int]) -> Map:
    if len(numbers) % 2:
        raise TarFormatError("sparse map with an odd count of numbers")
    return list(zip(numbers[::2], numbers[1::2], strict=True))
