"""Tars made byte by byte: ordinary ones, and those that no tool would write.

    tar(dir_("etc/"), file("etc/passwd", b"root"), symlink("etc/mtab", "/proc/mounts"))

Each function returns the bytes of one member with its extended headers; ``tar`` joins them and adds
the end mark. Names may be str or bytes. Nothing here uses the code under test.
"""

from __future__ import annotations

import base64

BLOCK = 512
END = bytes(2 * BLOCK)
Name = str | bytes


def raw(name: Name) -> bytes:
    return name if isinstance(name, bytes) else name.encode()


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    """GNU's form for what octal cannot hold: negative or large."""
    number = value.to_bytes(width, "big", signed=True)
    return bytes((number[0] | 0x80,)) + number[1:]


def num(value: int | bytes, width: int) -> bytes:
    if isinstance(value, bytes):
        return value.ljust(width, b"\0")
    fits = 0 <= value < 8 ** (width - 1)
    return octal(value, width) if fits else base256(value, width)


def header(
    name: Name,
    kind: bytes,
    *,
    size: int | bytes = 0,
    mode: int | bytes = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    link: Name = b"",
    major: int = 0,
    minor: int = 0,
    magic: bytes = b"ustar\00000",
    prefix: bytes = b"",
    tail: bytes = b"",
    checksum: int | None = None,
) -> bytes:
    """One header block; ``tail`` overwrites the bytes from 345 on, ``checksum`` the right one."""
    fields = [
        raw(name)[:100].ljust(100, b"\0"),
        num(mode, 8),
        num(uid, 8),
        num(gid, 8),
        num(size, 12),
        num(mtime, 12),
        b" " * 8,
        kind,
        raw(link)[:100].ljust(100, b"\0"),
        magic,
        bytes(64),
        num(major, 8),
        num(minor, 8),
        (tail or prefix).ljust(167, b"\0"),
    ]
    block = b"".join(fields)
    assert len(block) == BLOCK
    total = sum(block) if checksum is None else checksum
    return block[:148] + b"%06o\0 " % total + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def record(key: Name, value: Name) -> bytes:
    rest = b" %s=%s\n" % (raw(key), raw(value))
    length = len(rest)
    while len(b"%d" % length) + len(rest) != length:
        length = len(b"%d" % length) + len(rest)
    return b"%d%s" % (length, rest)


def pax(records: dict[Name, Name] | list[tuple[Name, Name]], kind: bytes = b"x") -> bytes:
    """An extended header for the member that follows."""
    items = records.items() if isinstance(records, dict) else records
    body = b"".join(record(key, value) for key, value in items)
    return header("PaxHeaders/x", kind, size=len(body)) + padded(body)


def gnu_long(name: Name, kind: bytes = b"L") -> bytes:
    """GNU's header for a long name (``K``: a long link target)."""
    body = raw(name) + b"\0"
    return header("././@LongLink", kind, size=len(body), magic=b"ustar  \0") + padded(body)


def _extended(records, xattrs, name: bytes, link: bytes) -> bytes:
    items = list((records or {}).items())
    items += [(b"SCHILY.xattr." + raw(key), value) for key, value in (xattrs or {}).items()]
    items += [(b"path", name)] if len(name) > 100 else []
    items += [(b"linkpath", link)] if len(link) > 100 else []
    return pax(items) if items else b""


def entry(name: Name, kind: bytes, data: bytes = b"", *, pax=None, xattrs=None, **fields) -> bytes:
    """A member of any kind; *pax* are further records, *xattrs* become star's records."""
    before = _extended(pax, xattrs, raw(name), raw(fields.get("link", b"")))
    fields.setdefault("size", len(data))
    return before + header(name, kind, **fields) + padded(data)


def file(name: Name, data: bytes = b"", **fields) -> bytes:
    return entry(name, b"0", data, **fields)


def dir_(name: Name, **fields) -> bytes:
    return entry(name, b"5", mode=fields.pop("mode", 0o755), **fields)


def symlink(name: Name, target: Name, **fields) -> bytes:
    return entry(name, b"2", link=target, mode=0o777, **fields)


def hardlink(name: Name, target: Name, **fields) -> bytes:
    return entry(name, b"1", link=target, **fields)


def fifo(name: Name, **fields) -> bytes:
    return entry(name, b"6", **fields)


def char_device(name: Name, major: int, minor: int, **fields) -> bytes:
    return entry(name, b"3", major=major, minor=minor, **fields)


def block_device(name: Name, major: int, minor: int, **fields) -> bytes:
    return entry(name, b"4", major=major, minor=minor, **fields)


def whiteout(name: Name) -> bytes:
    """The whiteout that hides *name* in lower layers."""
    head, slash, leaf = raw(name).rpartition(b"/")
    return file(head + slash + b".wh." + leaf)


def opaque(directory: Name) -> bytes:
    """The mark that lets nothing of the lower layers show in *directory* (``""``: the root)."""
    return file((raw(directory) + b"/" if directory else b"") + b".wh..wh..opq")


def libarchive_xattr(name: str, value: bytes) -> dict[Name, Name]:
    """The pax record that libarchive writes for an attribute."""
    return {f"LIBARCHIVE.xattr.{name}": base64.b64encode(value).rstrip(b"=")}


def sparse_old(name: Name, size: int, parts: list[tuple[int, bytes]]) -> bytes:
    """An old GNU sparse member: *parts* are (offset, data); extension blocks after four."""
    pairs = [num(offset, 12) + num(len(data), 12) for offset, data in parts]
    more = [pairs[i : i + 21] for i in range(4, len(pairs), 21)]
    tail = bytes(41) + b"".join(pairs[:4]).ljust(96, b"\0") + bytes((bool(more),)) + num(size, 12)
    stored = b"".join(data for _, data in parts)
    head = header(name, b"S", size=len(stored), magic=b"ustar  \0", tail=tail)
    blocks = [
        b"".join(group).ljust(504, b"\0") + bytes((index + 1 < len(more),)) + bytes(7)
        for index, group in enumerate(more)
    ]
    return head + b"".join(blocks) + padded(stored)


def sparse_pax(name: Name, size: int, parts: list[tuple[int, bytes]], form: str) -> bytes:
    """A sparse member in GNU's pax *form*: ``0.0``, ``0.1`` or ``1.0``."""
    stored = b"".join(data for _, data in parts)
    numbers = [n for offset, data in parts for n in (offset, len(data))]
    if form == "1.0":
        text = b"".join(b"%d\n" % n for n in (len(parts), *numbers))
        stored = padded(text) + stored
        records = [("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.name", name)]
        records.append(("GNU.sparse.realsize", str(size)))
    else:
        records = [("GNU.sparse.size", str(size)), ("GNU.sparse.numblocks", str(len(parts)))]
        if form == "0.1":
            records += [("GNU.sparse.map", ",".join(map(str, numbers))), ("GNU.sparse.name", name)]
        else:
            keys = ("GNU.sparse.offset", "GNU.sparse.numbytes") * len(parts)
            records += [(key, str(n)) for key, n in zip(keys, numbers, strict=True)]
    inner = name if form == "0.0" else "GNUSparseFile.0/x"
    return pax(records) + header(inner, b"0", size=len(stored)) + padded(stored)


def tar(*members: bytes, end: bytes = END) -> bytes:
    return b"".join(members) + end
