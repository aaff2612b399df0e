"""Times, extended attributes, ACLs, statfs: on files of every layer."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import subprocess
import sys
import time

import pytest

from tests.support import kernel
from tests.support.files import as_user, opened, read, refused, write
from tests.support.mounts import OVERRIDE
from tests.support.stacks import PAST_NS, Device, Dir, Fifo, File, Symlink, build_stack
from unionfs.ondisk.override import Spelling
from unionfs.syscalls.capability import CAP_SYS_ADMIN

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture
def root(scratch, union):
    layers = build_stack(
        scratch + b"/s",
        [
            [
                File(b"file", xattrs=(("user.low", b"1"), ("trusted.low", b"2"))),
                Dir(b"dir", xattrs=(("user.hidden", b"by the upper one"),)),
                Symlink(b"link", b"file"),
                Fifo(b"fifo"),
                Device(b"null"),
            ],
            [Dir(b"dir", xattrs=(("user.low", b"dir"),)), File(b"dir/mid")],
        ],
    )
    return union(layers).root


ALL = (b"/file", b"/dir", b"/link", b"/fifo", b"/null")


@pytest.mark.parametrize("name", ALL)
def test_times_to_the_nanosecond(root, name):
    path = root + name
    for atime, mtime in ((1, 2), (-1, -1_000_000_001), (1 << 60, (1 << 60) + 999), (0, 0)):
        kernel.utimensat(path, atime, mtime)
        st = os.lstat(path)
        assert (st.st_atime_ns, st.st_mtime_ns) == (atime, mtime)


def test_what_is_cut_is_not_newer_than_what_is_made_later(scratch, union):
    """make(1) goes by that. The filesystem's clock may be behind the one that programs ask."""
    files = [File(b"%d" % number, b"x", 100) for number in range(30)]
    root = union(build_stack(scratch + b"/s", [files])).root
    for number in range(30):
        path = root + b"/%d" % number
        os.truncate(path, number % 2)
        write(path + b"-later", b"")
        assert os.lstat(path).st_mtime_ns <= os.lstat(path + b"-later").st_mtime_ns


@pytest.mark.parametrize("name", ALL)
def test_now_and_omit(root, name):
    path = root + name
    before = os.lstat(path)
    kernel.utimensat(path, kernel.UTIME_OMIT, kernel.UTIME_OMIT)
    assert os.lstat(path).st_mtime_ns == before.st_mtime_ns
    kernel.utimensat(path, kernel.UTIME_OMIT, 77)
    st = os.lstat(path)
    assert (st.st_atime_ns, st.st_mtime_ns) == (before.st_atime_ns, 77)
    kernel.utimensat(path, 88, kernel.UTIME_OMIT)
    st = os.lstat(path)
    assert (st.st_atime_ns, st.st_mtime_ns) == (88, 77)
    kernel.utimensat(path, kernel.UTIME_OMIT, kernel.UTIME_NOW)
    st = os.lstat(path)
    assert st.st_atime_ns == 88
    assert abs(st.st_mtime_ns - time.time_ns()) < 60e9


def test_copy_up_keeps_times_owner_mode_and_attributes(scratch, union):
    """What a change does not touch stays as it was in the lower layer."""
    layers = build_stack(
        scratch + b"/s",
        [[Dir(b"d", 0o750, 5, 6), File(b"d/f", b"x", 10, 0o4751, 7, 8, (("user.k", b"v"),))]],
    )
    root = union(layers).root
    before, folder = os.lstat(root + b"/d/f"), os.lstat(root + b"/d")
    os.setxattr(root + b"/d/f", "user.new", b"")
    after, folder_after = os.lstat(root + b"/d/f"), os.lstat(root + b"/d")
    for name in ("st_mode", "st_uid", "st_gid", "st_size", "st_mtime_ns", "st_atime_ns", "st_ino"):
        assert getattr(before, name) == getattr(after, name), name
    assert os.getxattr(root + b"/d/f", "user.k") == b"v"
    for name in ("st_mode", "st_uid", "st_gid", "st_mtime_ns", "st_ino"):
        assert getattr(folder, name) == getattr(folder_after, name), name


def test_ctime_moves_with_every_change(root):
    for change in (
        lambda path: os.chmod(path, 0o600),
        lambda path: os.chown(path, 1, 1),
        lambda path: os.setxattr(path, "user.c", b""),
        lambda path: os.link(path, path + b"-link"),
        lambda path: os.unlink(path + b"-link"),
        lambda path: os.rename(path, path + b"2"),
    ):
        path = root + b"/file"
        before = os.lstat(path).st_ctime_ns
        time.sleep(0.02)
        change(path)
        if not os.path.exists(path):
            os.rename(path + b"2", path)
        assert os.lstat(path).st_ctime_ns > before


def test_directories_show_when_their_names_changed(root):
    for change in (
        lambda: write(root + b"/dir/new", b""),
        lambda: os.unlink(root + b"/dir/new"),
        lambda: os.unlink(root + b"/dir/mid"),
        lambda: os.mkdir(root + b"/dir/sub"),
        lambda: os.rename(root + b"/dir/sub", root + b"/sub"),
    ):
        os.utime(root + b"/dir", ns=(PAST_NS, PAST_NS))
        change()
        st = os.lstat(root + b"/dir")
        assert st.st_mtime_ns != PAST_NS
        assert abs(st.st_mtime_ns - time.time_ns()) < 60e9


@pytest.mark.parametrize("name", [b"/file", b"/dir"])
def test_create_and_replace(root, name):
    path = root + name
    with refused(errno.EEXIST):
        os.setxattr(path, "user.low", b"x", os.XATTR_CREATE)
    with refused(errno.ENODATA):
        os.setxattr(path, "user.new", b"x", os.XATTR_REPLACE)
    os.setxattr(path, "user.new", b"1", os.XATTR_CREATE)
    os.setxattr(path, "user.new", b"2", os.XATTR_REPLACE)
    assert os.getxattr(path, "user.new") == b"2"
    os.removexattr(path, "user.new")
    with refused(errno.ENODATA):
        os.removexattr(path, "user.new")
    with refused(errno.ENODATA):
        os.getxattr(path, "user.new")


@pytest.mark.parametrize("size", [0, 1, 4000])
def test_values_of_every_size(root, size):
    os.setxattr(root + b"/file", "user.size", b"v" * size)
    assert os.getxattr(root + b"/file", "user.size") == b"v" * size


@pytest.mark.parametrize("uid", [0, 1000])
@pytest.mark.parametrize("capable", [True, False])
def test_trusted_attributes_are_listed_for_who_has_the_capability(root, uid, capable):
    """CAP_SYS_ADMIN of the machine, whoever has it."""

    def check() -> None:
        assert sorted(os.listxattr(root + b"/file")) == ["trusted.low"] * capable + ["user.low"]

    assert as_user(check, uid=uid, capabilities=capable << CAP_SYS_ADMIN) == 0


def test_trusted_attributes_are_not_listed_for_root_of_a_namespace(root):
    script = "import os, sys; print(os.listxattr(sys.argv[1]))"
    words = ["unshare", "--user", "--map-root-user", sys.executable, "-c", script]
    done = subprocess.run([*words, root + b"/file"], check=True, stdout=subprocess.PIPE)
    assert done.stdout == b"['user.low']\n"


def test_special_files_take_trusted_but_not_user(root):
    for name in (b"/link", b"/fifo", b"/null"):
        path = root + name
        with refused(errno.EPERM):
            os.setxattr(path, "user.x", b"1", follow_symlinks=False)
        os.setxattr(path, "trusted.x", b"1", follow_symlinks=False)
        assert os.listxattr(path, follow_symlinks=False) == ["trusted.x"]


def test_a_driver_like_name_is_only_a_name(root):
    """What a user sets is never read as a mark of ours, and ours are not shown."""
    for name in ("trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque"):
        os.setxattr(root + b"/dir", name, b"y")
        assert os.getxattr(root + b"/dir", name) == b"y"
        assert name in os.listxattr(root + b"/dir")
    assert os.listdir(root + b"/dir") == [b"mid"]
    os.rename(root + b"/dir", root + b"/moved")
    assert os.getxattr(root + b"/moved", "trusted.overlay.redirect") == b"y"
    assert os.listdir(root + b"/moved") == [b"mid"]


def test_how_owners_are_kept_is_not_for_users_of_the_mount_to_say(scratch, union):
    """On the root of an upper that is what makes the next mount obey the same on files."""
    layers = build_stack(scratch + b"/s", [[File(b"file", uid=1000, gid=1000)]])
    mounted = union(layers)
    for spelling in Spelling:
        with refused(errno.EPERM):
            os.setxattr(mounted.root, spelling.value, b"0:0:0755:dir")
    os.setxattr(mounted.root + b"/file", OVERRIDE, b"0:0:04755:char-1-3")
    before = os.lstat(mounted.root + b"/file")
    mounted.unmount()
    after = os.lstat(union(layers).root + b"/file")
    assert (after.st_mode, after.st_uid) == (before.st_mode, before.st_uid) == (0o100644, 1000)


def test_an_empty_capability_is_in_nobodys_way(scratch, union):
    """Everybody may set one on any file, and nobody can read it: the kernel says EINVAL."""
    void = (("security.capability", b""),)
    root = union(build_stack(scratch + b"/s", [[File(b"low", xattrs=void), File(b"new")]])).root
    assert as_user(lambda: os.setxattr(root + b"/new", "security.capability", b"")) == 0
    for path in (root + b"/low", root + b"/new"):
        with refused(errno.EINVAL):
            os.getxattr(path, "security.capability")
        with opened(path, os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
            mapped[0:1] = b"y"
            mapped.flush()
        assert read(path) == b"y" + b"x" * 9
    assert os.listxattr(root + b"/new") == ["security.capability"]
    os.removexattr(root + b"/new", "security.capability")
    assert os.listxattr(root + b"/new") == []


def test_none_of_our_marks_is_shown(root):
    os.mkdir(root + b"/made")
    os.rename(root + b"/dir", root + b"/made/dir")
    os.chmod(root + b"/file", 0o600)
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            names = os.listxattr(os.path.join(folder, name), follow_symlinks=False)
            assert not [n for n in names if "overlay" in n or "unionfs" in n]


def _setfacl(*words: str | bytes) -> None:
    subprocess.run(["setfacl", *words], check=True)


def test_an_acl_is_kept_and_obeyed(scratch, union):
    layers = build_stack(scratch + b"/s", [[File(b"f", b"x", 10, 0o600), File(b"g", mode=0o600)]])
    _setfacl("-m", "u:1000:r", layers.lowers[0] + b"/f")
    root = union(layers).root
    assert as_user(lambda: read(root + b"/f")) == 0
    assert as_user(lambda: write(root + b"/f", b"")) == errno.EACCES
    assert as_user(lambda: read(root + b"/f"), uid=1001) == errno.EACCES
    acl = os.getxattr(root + b"/f", "system.posix_acl_access")
    with opened(root + b"/f", os.O_RDWR) as fd:
        os.pwrite(fd, b"new", 0)
    assert os.getxattr(root + b"/f", "system.posix_acl_access") == acl
    assert as_user(lambda: read(root + b"/f")) == 0
    _setfacl("-m", "u:1000:rw", root + b"/g")
    assert as_user(lambda: write(root + b"/g", b"hers")) == 0
    assert os.lstat(root + b"/g").st_mode & 0o070 == 0o060  # the mask
    _setfacl("-b", root + b"/g")
    assert as_user(lambda: read(root + b"/g")) == errno.EACCES


def test_chmod_changes_the_mask_of_an_acl(root):
    _setfacl("-m", "u:1000:rw", root + b"/file")
    os.chmod(root + b"/file", 0o604)
    assert as_user(lambda: write(root + b"/file", b"")) == errno.EACCES
    os.chmod(root + b"/file", 0o664)
    assert as_user(lambda: write(root + b"/file", b"")) == 0


def test_default_acls_are_inherited(root):
    _setfacl("-d", "-m", "u:1000:rwx", root + b"/dir")
    before = os.umask(0)
    os.mkdir(root + b"/dir/sub")
    write(root + b"/dir/file", b"")
    os.umask(before)
    shown = subprocess.run(
        ["getfacl", "-cpEn", root + b"/dir/sub"], check=True, capture_output=True, text=True
    ).stdout
    assert "user:1000:rwx" in shown
    assert "default:user:1000:rwx" in shown
    assert as_user(lambda: write(root + b"/dir/sub/theirs", b"")) == 0
    assert as_user(lambda: write(root + b"/dir/file", b"")) == 0


def test_statfs_tells_of_the_disk_that_changes_go_to(scratch, union):
    disk = scratch + b"/disk"
    os.mkdir(disk)
    kernel.mount(b"small", disk, b"tmpfs", 0, b"size=4m")
    layers = build_stack(disk + b"/s", [[File(b"f")]])
    mounted = union(layers)
    seen, there = os.statvfs(mounted.root), os.statvfs(disk)
    assert seen.f_blocks * seen.f_frsize == there.f_blocks * there.f_frsize == 4 << 20
    assert seen.f_bavail * seen.f_frsize == there.f_bavail * there.f_frsize
    assert (seen.f_files, seen.f_namemax) == (there.f_files, 255)
    kind = subprocess.run(
        ["stat", "-f", "-c", "%t", mounted.root], check=True, capture_output=True
    ).stdout.strip()
    assert kind == b"65735546"  # FUSE_SUPER_MAGIC: container engines count mounts by it
    assert os.lstat(mounted.root).st_dev != os.lstat(scratch).st_dev
    mounted.unmount()
    kernel.umount(disk)


def test_device_numbers_and_kinds(root):
    st = os.lstat(root + b"/null")
    assert stat.S_ISCHR(st.st_mode)
    assert st.st_rdev == os.makedev(1, 3)
    os.mknod(root + b"/block", stat.S_IFBLK | 0o600, os.makedev(259, 65_537))
    assert os.lstat(root + b"/block").st_rdev == os.makedev(259, 65_537)
    os.chmod(root + b"/null", 0o600)
    assert os.lstat(root + b"/null").st_rdev == os.makedev(1, 3)
    with refused(errno.EPERM):
        os.mknod(root + b"/whiteout", stat.S_IFCHR | 0o600, 0)
