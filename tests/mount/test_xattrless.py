"""Files that the extension knows to have no attributes, and that get some (_xattrless.c)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import threading

import pytest

from tests.support.extension import answered
from tests.support.files import as_user, refused, write
from tests.support.stacks import Dir, Fifo, File, Link, Symlink, build_stack
from unionfs.container.tracing import Batch, read_events
from unionfs.syscalls.at import RENAME_EXCHANGE, renameat2

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
CAPABILITY = "security.capability"
SOME_CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHi", *entry)
    for entry in [(1, 7, -1), (2, 5, 1000), (4, 5, -1), (16, 5, -1), (32, 5, -1)]
)
BIG = 1 << 24
STACK = [
    [
        *(Dir(b"dir"), Dir(b"other"), File(b"file"), File(b"dir/file"), Fifo(b"pipe")),
        *(Symlink(b"link", b"file"), File(b"named"), Link(b"dir/named", b"named")),
        *(File(b"has", xattrs=(("user.a", b"1"), ("user.bb", b""))), File(b"big", size=BIG)),
        File(b"capable", xattrs=((CAPABILITY, SOME_CAPABILITY),)),
        File(b"trusted", xattrs=(("trusted.t", b"2"),)),
        Dir(b"inherits", xattrs=((DEFAULT, ACL),)),
        File(b"acl", xattrs=((ACCESS, ACL),)),
    ]
]
BARE = (b"file", b"dir/file", b"dir", b"named", b"pipe", b"link")
NAMES = (
    *(CAPABILITY, "security.ima", "security.selinux", "security.none", ACCESS, DEFAULT),
    *(
        "user.a",
        "user.none",
        "user.unionfs.layer",
        "user.unionfs.none",
        "trusted.t",
        "trusted.none",
    ),
    *("trusted.overlay.opaque", "system.none", "none", "user."),
)
_LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def layers(scratch):
    return build_stack(scratch + b"/s", STACK)


def names(path: bytes) -> list[str]:
    return sorted(os.listxattr(path, follow_symlinks=False))


def value(path: bytes, name: str) -> bytes:
    return os.getxattr(path, name, follow_symlinks=False)


def warm(path: bytes) -> None:
    """Ask until the extension answers, and see that there is nothing."""
    for _ in range(3):
        assert names(path) == []
        with refused(errno.ENODATA):
            value(path, CAPABILITY)


@pytest.mark.needs_extension
@pytest.mark.parametrize("name", BARE)
def test_only_the_first_question_is_for_python(union, layers, name):
    """Of those that engines ask: the list's length and itself, and the capability."""
    root = union(layers).root
    names(root + b"/" + name)
    before = answered(root)
    for asked in NAMES[:3]:
        with refused(errno.ENODATA):
            value(root + b"/" + name, asked)
    names(root + b"/" + name)
    assert answered(root) - before == 4


@pytest.mark.needs_extension
def test_who_goes_through_a_tree_asks_python_seldom(scratch, union):
    """As containers/storage does to compare two mounts: nearly no question is the first of any."""
    entries = [File(b"d%d/f%d" % (d, f)) for d in range(10) for f in range(60)]
    root = union(build_stack(scratch + b"/s", [entries])).root
    before = answered(root)
    for folder in (root + b"/d%d" % d for d in range(10)):
        for name in sorted(os.listdir(folder)):
            os.lstat(folder + b"/" + name)
            with refused(errno.ENODATA):
                value(folder + b"/" + name, CAPABILITY)
            assert names(folder + b"/" + name) == []
    assert answered(root) - before > 1200 * 0.9


@pytest.mark.needs_extension
def test_executing_a_program_is_no_reason_to_look_at_others(union, scratch):
    """The kernel asks for its capability; the files that a program then reads are asked nothing."""
    with open("/bin/true", "rb") as file:
        true = file.read()
    entries = [File(b"program", true, len(true), mode=0o755), File(b"file"), File(b"other")]
    root = union(build_stack(scratch + b"/s", [entries])).root
    assert subprocess.run([root + b"/program"], check=False).returncode == 0
    for name, share in ((b"/file", 0), (b"/other", 1)):
        os.lstat(root + name)
        before = answered(root)
        assert names(root + name) == []
        assert answered(root) - before == share


def _ask(path: bytes, name: str, size: int) -> tuple[int, bytes]:
    """Ask lgetxattr(2), or llistxattr(2) for no name, with a buffer of *size*."""
    buffer = ctypes.create_string_buffer(size) if size else None
    if name:
        found = _LIBC.lgetxattr(path, name.encode(), buffer, size)
    else:
        found = _LIBC.llistxattr(path, buffer, size)
    if found < 0:
        return -ctypes.get_errno(), b""
    return found, buffer.raw[:found] if buffer is not None else b""


@pytest.mark.needs_extension
def test_who_traces_sees_every_question(union, layers):
    root = union(layers).root
    warm(root + b"/file")
    batches = read_events(root)
    assert next(batches) == Batch([], 0)
    before = answered(root)
    warm(root + b"/file")
    asked = [event for event in next(batches).events if event.path == "/file"]
    batches.close()
    assert answered(root) - before >= len(asked) >= 6
    assert all(event.extension for event in asked)
    assert {(event.operation, event.errno) for event in asked} == {
        ("listxattr", 0),
        ("getxattr", errno.ENODATA),
    }


@pytest.mark.needs_extension
@pytest.mark.parametrize("options", [[], [b"noacl"], [b"noxattrs=1"], [b"xattr_permissions=2"]])
def test_every_answer_is_the_one_that_python_gives(union, layers, scratch, options):
    """Whichever name, however large the buffer; and the first answer is the same as the third."""
    paths = [*BARE, b"has", b"capable", b"trusted", b"inherits", b"acl", b""]
    asked = [(p, n, s) for p in paths for n in ("", *NAMES) for s in (0, 1, 4, 100)]

    def answers(**how):
        mounted = union(layers, options=options, **how)
        found = [
            [_ask(mounted.root + b"/" + path, name, size) for _ in range(3)]
            for path, name, size in asked
        ]
        mounted.unmount()
        return found

    by_python, with_extension = answers(env={"UNIONFS_PURE": "1"}), answers()
    differing = [
        (a, p, e) for a, p, e in zip(asked, by_python, with_extension, strict=True) if p != e
    ]
    assert differing == []


def _by_descriptor(root: bytes) -> None:
    with open(root + b"/file", "rb") as file:
        os.setxattr(file.fileno(), "user.x", b"v")


def _another_name(root: bytes) -> None:
    os.setxattr(root + b"/dir/named", "user.x", b"v")


def _replaced(root: bytes) -> None:
    os.rename(root + b"/has", root + b"/file")


def _exchanged(root: bytes) -> None:
    renameat2(-100, root + b"/has", -100, root + b"/file", RENAME_EXCHANGE)


def _made_anew(root: bytes) -> None:
    os.unlink(root + b"/file")
    os.rename(root + b"/has", root + b"/elsewhere")
    os.link(root + b"/elsewhere", root + b"/file")


CHANGES = {
    "set": (b"file", lambda root: os.setxattr(root + b"/file", "user.x", b"v"), ["user.x"]),
    "set on a directory": (
        b"dir",
        lambda root: os.setxattr(root + b"/dir", "user.x", b""),
        ["user.x"],
    ),
    "set by descriptor": (b"file", _by_descriptor, ["user.x"]),
    "set by another name": (b"named", _another_name, ["user.x"]),
    "an ACL": (b"file", lambda root: os.setxattr(root + b"/file", ACCESS, ACL), [ACCESS]),
    "a default ACL": (b"dir", lambda root: os.setxattr(root + b"/dir", DEFAULT, ACL), [DEFAULT]),
    "a capability": (
        b"file",
        lambda root: os.setxattr(root + b"/file", CAPABILITY, SOME_CAPABILITY),
        [CAPABILITY],
    ),
    "another in its place": (b"file", _replaced, ["user.a", "user.bb"]),
    "exchanged": (b"file", _exchanged, ["user.a", "user.bb"]),
    "removed and linked": (b"file", _made_anew, ["user.a", "user.bb"]),
}


@pytest.mark.parametrize("copied", [False, True], ids=["lower", "copied"])
@pytest.mark.parametrize("change", CHANGES)
def test_an_attribute_shows_at_once(union, layers, change, copied):
    name, make, expected = CHANGES[change]
    root = union(layers).root
    if copied:
        os.utime(root + b"/" + name)
    warm(root + b"/" + name)
    make(root)
    for _ in range(2):
        assert names(root + b"/" + name) == expected
        for each in expected:
            value(root + b"/" + name, each)
    for each in expected:
        os.removexattr(root + b"/" + name, each)
    warm(root + b"/" + name)
    if len(expected) == 1:  # else files were moved
        make(root)
        assert names(root + b"/" + name) == expected


@pytest.mark.parametrize("make", [os.mkdir, lambda path: write(path, b"")], ids=["dir", "file"])
def test_what_is_made_inherits_at_once(union, layers, make):
    """The directory got its default ACL after its children were known to have none."""
    root = union(layers).root
    for name in (b"dir", b"dir/file"):
        warm(root + b"/" + name)
    os.setxattr(root + b"/dir", DEFAULT, ACL)
    for _ in range(2):
        make(root + b"/dir/new")
        assert ACCESS in names(root + b"/dir/new")
        subject = root + b"/dir/new"
        (os.rmdir if os.path.isdir(subject) else os.unlink)(subject)
    warm(root + b"/dir/file")


def test_one_that_is_being_set_is_not_known_as_absent(union, layers):
    """The file is copied first, which takes a while; others ask for the attribute meanwhile."""
    root = union(layers).root
    warm(root + b"/big")
    setting = threading.Thread(target=os.setxattr, args=(root + b"/big", "user.x", b"v"))
    setting.start()
    asked = 0
    while setting.is_alive():
        names(root + b"/big")
        asked += 1
    setting.join()
    assert asked and names(root + b"/big") == ["user.x"]


def test_what_a_user_does_not_see_root_does(union, layers):
    root = union(layers).root

    def sees_none() -> None:
        for _ in range(3):
            if names(root + b"/trusted"):
                raise OSError(errno.EEXIST, "")

    assert as_user(sees_none) == 0
    assert names(root + b"/trusted") == ["trusted.t"] and value(root + b"/trusted", "trusted.t")


def test_what_the_mount_tells_of_a_file_goes_on(union, layers):
    root = union(layers).root
    warm(root + b"/file")
    assert value(root + b"/file", "user.unionfs.layer") == b"1"
    write(root + b"/file", b"changed")
    warm(root + b"/file")
    assert value(root + b"/file", "user.unionfs.layer") == b"upper"
