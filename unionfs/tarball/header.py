"""One 512-byte tar header: POSIX ustar, GNU, star and V7 (POSIX.1-2017 pax; GNU tar manual, D.2).

Numbers may be octal or GNU's base-256 (two's complement, first bit set).
"""

from __future__ import annotations

import zlib

from unionfs.errors import CorruptError

BLOCK = 512
ZERO_BLOCK = bytes(BLOCK)

REGULAR = b"0"
HARDLINK = b"1"
SYMLINK = b"2"
CHARACTER = b"3"
BLOCK_DEVICE = b"4"
DIRECTORY = b"5"
FIFO = b"6"
CONTIGUOUS = b"7"
GNU_SPARSE = b"S"
GNU_LONG_NAME = b"L"
GNU_LONG_LINK = b"K"
PAX_LOCAL = b"x"
PAX_GLOBAL = b"g"

# Types whose data, whatever the size field says, does not exist: as Go's archive/tar reads them.
_HEADER_ONLY = frozenset((HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO))
_SHOWN = 300
_DEVICES = frozenset((CHARACTER, BLOCK_DEVICE))
SECOND = 1_000_000_000  # in nanoseconds
MAX_SECONDS = 1 << 62  # well inside time_t; the filesystem clamps to what it can keep


class TarFormatError(CorruptError):
    """The bytes are not those of a tar archive, or it ends before it should."""


def shown(name: bytes) -> str:
    """Return *name* for a message: quoted, and cut where an attacker made it long."""
    return repr(name) if len(name) <= _SHOWN else f"{name[:_SHOWN]!r}…"


class Entry:
    """What the archive says about one name. Names are raw bytes, times nanoseconds since 1970.

    ``kind`` is the type flag, with NUL and ``7`` turned into ``0``. ``size`` counts the bytes of
    data in the archive, ``real_size`` those of the file; they differ where ``sparse`` lists the
    (offset, length) stretches that the archive holds.
    """

    __slots__ = (
        "gid",
        "kind",
        "link",
        "major",
        "minor",
        "mode",
        "mtime_ns",
        "name",
        "real_size",
        "size",
        "sparse",
        "uid",
        "xattrs",
    )

    def __init__(self, block: bytes) -> None:
        """Parse *block*, whose checksum is good. Raises TarFormatError."""
        kind = block[156:157]
        self.name = block[:100].partition(b"\0")[0]
        self.mode = number(block[100:108]) & 0o7777
        self.uid = number(block[108:116])
        self.gid = number(block[116:124])
        self.size = self.real_size = 0 if kind in _HEADER_ONLY else number(block[124:136])
        mtime = number(block[136:148])
        self.mtime_ns = max(-MAX_SECONDS, min(mtime, MAX_SECONDS)) * SECOND
        self.link = block[157:257].partition(b"\0")[0]
        self.major = number(block[329:337]) if kind in _DEVICES else 0
        self.minor = number(block[337:345]) if kind in _DEVICES else 0
        self.sparse: list[tuple[int, int]] | None = None
        self.xattrs: dict[bytes, bytes] | None = None
        if block[345] and block[257:263] == b"ustar\0":  # GNU's "ustar " has times there
            end = 476 if block[508:512] == b"tar\0" else 500  # star has times after 131 bytes
            self.name = block[345:end].partition(b"\0")[0] + b"/" + self.name
        if kind == b"\0":
            kind = DIRECTORY if self.name.endswith(b"/") else REGULAR
        self.kind = REGULAR if kind == CONTIGUOUS else kind
        if self.size < 0:
            raise TarFormatError(f"tar entry {shown(self.name)} has a negative size ({self.size})")


def number(field: bytes) -> int:
    """Return the number in a header's *field*; 0 for a blank one. Raises TarFormatError."""
    if field[0] & 0x80:
        # The first bit marks the form, the second is the sign.
        value = int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
        return value - (1 << (8 * len(field) - 1)) if field[0] & 0x40 else value
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    if digits.isdigit():  # int() alone would take "0o7", "+7" and "7_7" too
        try:
            return int(digits, 8)
        except ValueError:
            pass
    raise TarFormatError(f"tar header with a bad number: {field!r}")


def check_sum(block: bytes) -> bool:
    """Return whether the checksum of *block* is right, with bytes taken as unsigned or signed."""
    try:
        told = number(block[148:156])
    except TarFormatError:
        return False
    # The plain sum, four times faster than sum(): Adler-32's low half is 1 + the sum modulo 65521,
    # which 256 bytes cannot reach. The checksum's own 8 bytes count as spaces.
    counted = (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2
    own = sum(block[148:156]) - 8 * 0x20
    return told == counted - own or told == _signed_sum(block)


def _signed_sum(block: bytes) -> int:
    """Return the checksum that old Sun tars wrote."""
    masked = block[:148] + b" " * 8 + block[156:]
    return sum(masked) - 256 * sum(byte > 127 for byte in masked)
