"""Owners, modes, times, attributes and devices."""

from __future__ import annotations

import ctypes
import os
import pickle
import stat
import struct

import pytest

from tests.support import tars
from tests.support.layers import apply, directory, emit
from unionfs.ondisk.flavour import Flavour
from unionfs.syscalls import xattr
from unionfs.tarball.apply import apply_layer
from unionfs.tarball.limits import Limits

needs_root = pytest.mark.needs_root
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw+ep
NOBODY = 2**32 - 1  # in an ACL: no user or group in particular
ENTRIES = [(1, 7, NOBODY), (2, 6, 1000), (4, 5, NOBODY), (16, 7, NOBODY), (32, 5, NOBODY)]
ACL = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in ENTRIES)


@needs_root
def test_owners_modes_and_times(tmp_path):
    members = tars.tar(
        tars.dir_("./", mode=0o751, uid=3, gid=4, mtime=11),
        tars.dir_("d", mode=0o1755, uid=5, gid=6, mtime=12),
        tars.file("d/setuid", b"x", mode=0o6755, uid=2**32 - 2, gid=1000, mtime=13),
        tars.symlink("d/link", "x", uid=7, gid=8, mtime=14),
        tars.fifo("d/fifo", mode=0o622, uid=9, gid=10, mtime=15),
        tars.dir_("d/closed", mode=0, mtime=16),
        tars.file("d/closed/f"),
    )
    layer = apply(tmp_path, members)

    def seen(name):
        st = layer.lstat(name)
        return stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, st.st_mtime

    assert seen(".") == (0o751, 3, 4, 11)
    assert seen("d") == (0o1755, 5, 6, 12)
    assert seen("d/setuid") == (0o6755, 2**32 - 2, 1000, 13)
    assert seen("d/link") == (0o777, 7, 8, 14)
    assert seen("d/fifo") == (0o622, 9, 10, 15)
    assert seen("d/closed") == (0, 0, 0, 16)
    assert layer.applied.implicit_dirs == ()


def test_implied_directories_do_not_depend_on_the_umask_or_the_clock(tmp_path):
    old = os.umask(0o077)
    try:
        layer = apply(tmp_path, tars.tar(tars.file("a/b/f", mode=0o666)))
    finally:
        os.umask(old)
    for name in (".", "a", "a/b"):
        assert stat.S_IMODE(layer.lstat(name).st_mode) == 0o755
        assert layer.lstat(name).st_mtime == 0
    assert stat.S_IMODE(layer.lstat("a/b/f").st_mode) == 0o666
    assert layer.applied.implicit_dirs == (b".", b"a", b"a/b")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"mtime": -(2**31)}, -(2**31) * 10**9),
        ({"pax": {"mtime": "-1.25"}}, -1_250_000_000),
        ({"pax": {"mtime": "1234567890.123456789"}}, 1_234_567_890_123_456_789),
        ({"mtime": 2**33}, 2**33 * 10**9),
    ],
)
def test_times(tmp_path, fields, expected):
    layer = apply(tmp_path, tars.tar(tars.file("f", **fields), tars.dir_("d", **fields)))
    assert layer.lstat("f").st_mtime_ns == layer.lstat("d").st_mtime_ns == expected


@pytest.mark.parametrize("mtime", [2**80, -(2**80)])
def test_times_that_no_filesystem_holds_do_not_fail_the_import(tmp_path, mtime):
    layer = apply(
        tmp_path, tars.tar(tars.file("f", mtime=mtime), tars.file("g", pax={"mtime": "9" * 29}))
    )
    assert (layer.lstat("f").st_mtime > 2**33) == (mtime > 0)


def test_xattrs_of_any_bytes(tmp_path):
    values = {"user.bin": b"\0\n=\xff", "user.empty": b"", "user.sp ace": b"1"}
    layer = apply(
        tmp_path,
        tars.tar(
            tars.file("f", xattrs=values),
            tars.dir_("d", xattrs=values),
            tars.file("lib", pax=tars.libarchive_xattr("user.a%3Db", b"\0value")),
            tars.file(
                "both", xattrs={"user.x": b"star"}, pax=tars.libarchive_xattr("user.x", b"other")
            ),
        ),
    )
    for name in ("f", "d"):
        assert {k: layer.xattr(name, k.encode()) for k in values} == values
    assert layer.xattr("lib", b"user.a=b") == b"\0value"
    assert layer.xattr("both", b"user.x") == b"star"
    assert layer.applied.warnings == ()


@needs_root
def test_capabilities_and_acls_survive_and_are_not_inherited(tmp_path):
    acls = {"system.posix_acl_access": ACL, "system.posix_acl_default": ACL}
    layer = apply(
        tmp_path,
        tars.tar(
            tars.dir_("d", mode=0o775, mtime=5, xattrs=acls),
            tars.file("d/plain", mode=0o640),
            tars.file(
                "d/ping", b"x", mode=0o755, uid=9, xattrs={"security.capability": CAPABILITY}
            ),
            tars.symlink("l", "x", xattrs={"trusted.t": b"1"}),
        ),
    )
    assert layer.xattr("d", b"system.posix_acl_default") == ACL
    assert layer.xattr("d", b"system.posix_acl_access") == ACL
    assert layer.lstat("d").st_mtime == 5
    assert xattr.get_all(layer.at("d/plain")) == {}
    assert stat.S_IMODE(layer.lstat("d/plain").st_mode) == 0o640
    assert layer.xattr("d/ping", b"security.capability") == CAPABILITY
    assert layer.xattr("l", b"trusted.t") == b"1"


@needs_root
@pytest.mark.parametrize("name", ["trusted.SGI_ACL_FILE", "trusted.SGI_ACL_DEFAULT"])
def test_what_xfs_makes_of_acls_is_neither_read_nor_written(tmp_path, name):
    """It is an ACL there, which files would inherit meanwhile, and nothing elsewhere."""
    value = struct.pack(">I", 3) + struct.pack(">IIHxx", 1, 0, 7) * 3
    layer = apply(tmp_path, tars.tar(tars.dir_("d", xattrs={name: value}), tars.file("d/f")))
    assert layer.applied.warnings == ("ACL in XFS's own form dropped: 1, first b'd'",)
    assert xattr.get_all(layer.at("d")) == {}
    os.setxattr(layer.at("d/f"), name, value)
    assert name.encode() not in emit(layer.path)


@needs_root
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("security.capability", b"short"),
        ("security.capability", struct.pack("<I", 0x09000000) + bytes(16)),
        ("system.posix_acl_access", b"rubbish"),
        ("system.unknown", b"x"),
        ("nonamespace", b"x"),
        ("user.", b"x"),
        ("weird.namespace", b"x"),
        ("user." + "x" * 300, b"x"),
        ("user.large", b"x" * 5000),  # more than an ext4 block; kept by others
        ("user.huge", b"x" * 70_000),
    ],
)
def test_attributes_that_cannot_be_kept_do_not_fail_the_import(tmp_path, name, value):
    layer = apply(
        tmp_path, tars.tar(tars.file("f", xattrs={name: value, "user.ok": b"1"}), tars.file("g"))
    )
    assert layer.xattr("f", b"user.ok") == b"1"
    kept = xattr.get_all(layer.at("f")).get(name.encode()) if len(name) < 200 else None
    assert kept == value or "not kept: 1, first b'f'" in layer.applied.warnings[0]
    assert layer.names() == {b"f", b"g"}


DRIVER_NAMES = [
    "trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy",
    "trusted.overlay.overlay.opaque", "user.overlay.redirect", "user.overlay.whiteout",
    "user.fuseoverlayfs.opaque", "user.fuseoverlayfs.origin", "user.containers.override_stat",
    "security.fuseoverlayfs.x", "user.unionfs.posix_acl_access",
]  # fmt: skip


@needs_root
@pytest.mark.parametrize("flavour", Flavour)
@pytest.mark.parametrize("name", DRIVER_NAMES)
def test_a_layer_cannot_speak_the_drivers_language(tmp_path, flavour, name):
    forged = {name: b"y"}
    data = tars.tar(
        tars.dir_("./", xattrs=forged), tars.dir_("d", xattrs=forged), tars.file("f", xattrs=forged)
    )
    layer = apply(tmp_path, data, flavour=flavour)
    escaped = flavour.to_disk(name.encode())
    for path in (".", "d", "f"):
        found = xattr.get_all(layer.at(path))
        if flavour is Flavour.USER:  # its layers say owners and modes so: as we write them
            kind = b"0644:file" if path == "f" else b"0755:dir"
            assert found.pop(b"user.containers.override_stat") == b"0:0:" + kind
        if escaped != name.encode():
            assert found == {escaped: b"y"}
            assert flavour.from_disk(escaped) == name.encode()
        else:
            assert found == {}
    dropped = "attribute of a union driver dropped: 3" in "".join(layer.applied.warnings)
    assert dropped == (escaped == name.encode())


def test_a_forged_whiteout_is_left_out(tmp_path):
    layer = apply(tmp_path, tars.tar(tars.char_device("d/w", 0, 0), tars.file("d/x")))
    assert layer.names() == {b"d", b"d/x"}
    assert "character device 0:0 left out: 1, first b'd/w'" in layer.applied.warnings[0]


@needs_root
def test_devices(tmp_path):
    layer = apply(
        tmp_path,
        tars.tar(
            tars.char_device("null", 1, 3, mode=0o666, mtime=4),
            tars.block_device("loop", 7, 300, mode=0o660, gid=6),
            tars.block_device("zero", 0, 0),
        ),
    )
    null, loop = layer.lstat("null"), layer.lstat("loop")
    assert (null.st_mode, null.st_rdev) == (stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert (loop.st_mode, loop.st_rdev) == (stat.S_IFBLK | 0o660, os.makedev(7, 300))
    assert (null.st_mtime, loop.st_gid) == (4, 6)
    assert stat.S_ISBLK(layer.lstat("zero").st_mode)


def as_nobody(tmp_path, data: bytes):
    """Apply *data* as a user without privileges; return Applied, or raise what it raised."""
    dest = tmp_path / "layer"
    dest.mkdir()
    os.chown(dest, 65534, 65534)
    receive, send = os.pipe()
    with directory(dest) as fd:
        child = os.fork()
        if child == 0:
            os._exit(_child(fd, data, send))
    os.close(send)
    with os.fdopen(receive, "rb") as answer:
        result = pickle.loads(answer.read())
    assert os.waitpid(child, 0)[1] == 0
    if isinstance(result, Exception):
        raise result
    return result


def _child(fd: int, data: bytes, send: int) -> int:
    import io

    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: or /proc/self/fd is root's
    try:
        result: object = apply_layer(io.BytesIO(data), fd, flavour=Flavour.USER, limits=Limits())
    except Exception as error:
        result = error
    os.write(send, pickle.dumps(result))
    return 0


@needs_root
def test_without_privilege(tmp_path):
    """What an ordinary user imports is his on disk, and says beside it what it is."""
    applied = as_nobody(
        tmp_path,
        tars.tar(
            tars.dir_("d", mode=0o555, uid=1, mtime=5),
            tars.file("d/f", b"x", mode=0o4755, uid=2, xattrs={"security.capability": CAPABILITY}),
            tars.symlink("d/l", "f"),
            tars.fifo("d/p"),
            tars.char_device("d/null", 1, 3),
            tars.whiteout("w"),
            tars.opaque("d"),
            tars.dir_("none", mode=0),
            tars.file("none/x", mode=0),
        ),
    )
    layer = tmp_path / "layer"
    assert applied.warnings == ()
    for name, disk, shown in (
        ("", 0o40755, b"0:0:0755:dir"),
        ("d", 0o40755, b"1:0:0555:dir"),
        ("d/f", 0o100755, b"2:0:04755:file"),
        ("d/l", 0o100600, b"0:0:0777:symlink"),
        ("d/p", 0o100600, b"0:0:0644:pipe"),
        ("d/null", 0o100600, b"0:0:0644:char-1-3"),
        ("none", 0o40700, b"0:0:00:dir"),
        ("none/x", 0o100600, b"0:0:00:file"),
    ):
        at = layer / name
        assert os.getxattr(at, "user.containers.override_stat") == shown
        assert (at.stat().st_mode, at.stat().st_uid) == (disk, 65534), name
    assert (layer / "d/f").read_bytes() == b"x"
    assert (layer / "d/l").read_bytes() == b"f"
    assert (layer / "d").stat().st_mtime == 5
    assert (layer / "w").lstat().st_rdev == 0
    assert os.getxattr(layer / "d", "user.overlay.opaque") == b"y"
    kept = os.getxattr(layer / "d/f", "user.containers.override_security.capability")
    assert kept == CAPABILITY
