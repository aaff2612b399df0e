"""Owners that are shown otherwise than the disk has them: ID maps and squashing."""

from __future__ import annotations

import errno
import os
import stat
import struct
from functools import partial

import pytest

from tests.support.files import as_user, read, refused, write
from tests.support.mounts import OURS, OVERRIDE
from tests.support.stacks import Dir, File, Link, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

MAPS = [b"uidmapping=:0:10000:1000:1000:5000:1", b"gidmapping=:0:20000:1000:1000:6000:1"]
OVERFLOW = 65534
LOWER = [
    [
        Dir(b"dir", mode=0o755, uid=0, gid=0),
        File(b"dir/root", mode=0o644, uid=0, gid=0),
        File(b"user", mode=0o600, uid=1000, gid=1000),
        File(b"other", mode=0o640, uid=3000, gid=3000),
        Link(b"linked", b"user"),
    ]
]


def owner(path: bytes) -> tuple[int, int]:
    st = os.lstat(path)
    return st.st_uid, st.st_gid


@pytest.fixture(params=[(), (b"xattr_permissions=2",)], ids=["inode", "attribute"])
def kept(request):
    return request.param


@pytest.fixture
def layers(scratch):
    return build_stack(scratch + b"/s", LOWER)


def on_disk(layers, name, kept):
    path = layers.upper + b"/" + name
    if not kept:
        return owner(path)
    uid, gid, *_ = os.getxattr(path, OVERRIDE).split(b":")
    return int(uid), int(gid)


def named_user(number: int) -> bytes:
    """Return an ACL that lets the user *number* read and write."""
    entries = [(1, 6, -1), (2, 6, number), (4, 4, -1), (16, 6, -1), (32, 0, -1)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)


def test_what_is_on_disk_is_shown_through_the_map(union, layers):
    root = union(layers, options=MAPS).root
    assert owner(root + b"/dir/root") == (10000, 20000)
    assert owner(root + b"/user") == owner(root + b"/linked") == (5000, 6000)
    assert owner(root + b"/other") == (OVERFLOW, OVERFLOW)


def test_writes_go_the_other_way(union, layers, kept):
    root = union(layers, options=[*MAPS, *kept]).root
    os.chmod(root, 0o777)
    os.chmod(root + b"/dir", 0o777)

    def make():
        for path in (root + b"/dir", root):
            with open(path + b"/new", "w") as file:
                file.write("mine")
        os.mkdir(root + b"/sub")
        os.symlink(b"x", root + b"/link")
        os.mkfifo(root + b"/pipe")

    assert as_user(make, uid=10007, gid=20009) == 0
    for name in (b"dir/new", b"new", b"sub", b"link", b"pipe"):
        assert owner(root + b"/" + name) == (10007, 20009), name
        assert on_disk(layers, name, kept) == (7, 9), name
    os.chown(root + b"/new", 5000, 20000)
    os.lchown(root + b"/link", 10000, -1)
    assert on_disk(layers, b"new", kept) == (1000, 0)
    assert on_disk(layers, b"link", kept) == (0, 9)
    assert owner(root + b"/new") == (5000, 20000)
    assert owner(root + b"/link") == (10000, 20009)


def test_a_copy_keeps_the_owner_on_disk(union, layers, kept):
    mounted = union(layers, options=[*MAPS, *kept])
    for name in (b"dir/root", b"linked", b"other"):
        with open(mounted.root + b"/" + name, "ab") as file:
            file.write(b"more")
            assert os.fstat(file.fileno()).st_uid == owner(mounted.root + b"/" + name)[0]
    os.utime(mounted.root + b"/dir")
    assert owner(mounted.root + b"/other") == (OVERFLOW, OVERFLOW)
    assert owner(mounted.root + b"/user") == owner(mounted.root + b"/linked") == (5000, 6000)
    assert os.lstat(mounted.root + b"/user").st_nlink == 2
    assert on_disk(layers, b"dir", kept) == (0, 0)
    assert on_disk(layers, b"linked", kept) == (1000, 1000)
    assert on_disk(layers, b"other", kept) == (3000, 3000)
    again = read(mounted.root + b"/user")
    mounted.unmount()
    mounted = union(layers, options=[*MAPS, *kept])
    assert owner(mounted.root + b"/user") == (5000, 6000) and read(mounted.root + b"/user") == again


def test_permissions_are_those_of_who_is_shown(union, layers):
    root = union(layers, options=MAPS).root
    assert as_user(lambda: read(root + b"/user"), uid=5000, gid=6000) == 0
    assert as_user(lambda: read(root + b"/user"), uid=1000, gid=1000) == errno.EACCES
    assert as_user(lambda: os.chmod(root + b"/user", 0o640), uid=5000, gid=6000) == 0
    assert as_user(lambda: os.chmod(root + b"/user", 0o640), uid=1000) == errno.EPERM
    assert as_user(lambda: read(root + b"/user"), uid=1, gid=6000) == 0


def test_who_has_no_place_in_the_map(union, layers, kept):
    """He is given nothing, but makes files: an engine on the host does in a container's tree."""
    root = union(layers, options=[*MAPS, *kept]).root
    with refused(errno.EOVERFLOW):
        os.chown(root + b"/user", 4, -1)
    with refused(errno.EOVERFLOW):
        os.chown(root + b"/user", -1, 4)
    os.mkdir(root + b"/made")
    assert on_disk(layers, b"made", kept) == owner(root + b"/made") == (OVERFLOW, OVERFLOW)
    os.chown(root + b"/made", 10000, 20000)
    assert on_disk(layers, b"made", kept) == (0, 0)


@pytest.mark.parametrize(("gid", "kept_bit"), [(6000, stat.S_ISGID), (1000, 0)])
def test_set_group_id_is_for_members_of_the_shown_group(union, layers, gid, kept_bit):
    """Without group execution it stays for members only (inode(7)); on disk the group is 1000."""
    path = union(layers, options=MAPS).root + b"/user"
    os.chmod(path, 0o2666)
    assert as_user(lambda: write(path, b"x"), uid=77, gid=gid) == 0
    assert os.lstat(path).st_mode & stat.S_ISGID == kept_bit


def test_acls_name_who_is_shown(union, layers):
    root = union(layers, options=MAPS).root
    os.setxattr(root + b"/user", "system.posix_acl_access", named_user(10003))
    assert os.getxattr(layers.upper + b"/user", "system.posix_acl_access") == named_user(3)
    assert os.getxattr(root + b"/user", "system.posix_acl_access") == named_user(10003)
    assert as_user(lambda: read(root + b"/user"), uid=10003, gid=1) == 0
    assert as_user(lambda: read(root + b"/user"), uid=3, gid=1) == errno.EACCES
    with refused(errno.EOVERFLOW):
        os.setxattr(root + b"/user", "system.posix_acl_access", named_user(4))


@pytest.mark.parametrize(
    ("options", "uid", "gid"),
    [
        (["squash_to_root"], 0, 0),
        (["squash_to_uid=77"], 77, None),
        (["squash_to_gid=88", "squash_to_root"], 0, 88),
        (["squash_to_uid=0", "squash_to_gid=88", *map(bytes.decode, MAPS)], 0, 88),
    ],
)
def test_squashed_owners(union, layers, options, uid, gid):
    """Another is shown; who made a file, or was given it, is on disk all the same."""

    def squashed(disk):
        return disk[0] if uid is None else uid, disk[1] if gid is None else gid

    root = union(layers, options=[option.encode() for option in options]).root
    for name in (b"dir/root", b"user", b"other"):
        assert owner(root + b"/" + name) == squashed(owner(layers.lowers[0] + b"/" + name))
    os.chmod(root, 0o777)
    first_uid, first_gid = (10000, 20000) if len(options) > 2 else (0, 0)
    make = partial(os.mkdir, root + b"/new")
    assert as_user(make, uid=first_uid + 5, gid=first_gid + 6) == 0
    assert owner(layers.upper + b"/new") == (5, 6)
    os.chown(root + b"/new", first_uid + 8, -1)
    assert owner(layers.upper + b"/new") == (8, 6)
    assert owner(root + b"/new") == squashed((8, 6))


def test_squashing_where_no_owner_can_be_given(union, layers):
    """A copy, a new file and a change of owners do what shows: nothing needs CAP_CHOWN."""
    without = ["setpriv", "--bounding-set", "-chown", "--inh-caps", "-chown", "--", *OURS]
    root = union(layers, options=[b"squash_to_root"], program=without).root
    write(root + b"/user", b"changed")
    os.chown(root + b"/user", 5, 5)
    os.chmod(root, 0o777)
    assert as_user(partial(os.symlink, b"x", root + b"/new")) == 0
    for name in (b"/user", b"/new"):
        assert owner(root + name) == owner(layers.upper + name) == (0, 0)


def test_as_fuse_overlayfs_shows_them(union, layers, scratch):
    """The same options on the same layers: what is shown, and what a change leaves on disk."""
    seen = []
    theirs = build_stack(scratch + b"/t", LOWER)
    for stack, program in ((layers, None), (theirs, "fuse-overlayfs")):
        more = {} if program is None else {"program": [program]}
        root = union(stack, options=MAPS, **more).root
        os.chmod(root, 0o777)
        os.chown(root + b"/user", 10042, 20043)
        assert as_user(lambda at=root: os.mkdir(at + b"/new"), uid=10005, gid=20006) == 0
        os.mkdir(root + b"/made")
        names = (b"", b"dir", b"dir/root", b"user", b"other", b"linked", b"new", b"made")
        seen.append(
            [owner(root + b"/" + name) for name in names if name != b"linked"]
            + [owner(stack.upper + b"/" + name) for name in (b"user", b"new", b"made")]
        )
    assert seen[0] == seen[1]
