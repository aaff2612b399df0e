"""Who may do what, and to whom belongs what callers make."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from functools import partial

import pytest

from tests.support import kernel
from tests.support.files import as_user, opened, read, refused, write
from tests.support.stacks import Dir, File, Symlink, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture
def root(scratch, union):
    layers = build_stack(
        scratch + b"/s",
        [
            [
                Dir(b".", 0o755),
                Dir(b"open", 0o777),
                Dir(b"closed", 0o700),
                File(b"closed/inside"),
                Dir(b"sticky", 0o1777),
                File(b"sticky/roots"),
                File(b"sticky/theirs", uid=1001),
                Dir(b"setgid", 0o2777, 0, 4000),
                Dir(b"mine", 0o755, 1000, 1000),
                File(b"mine/file", b"x", 10, 0o644, 1000, 1000),
                File(b"mine/suid", b"x", 10, 0o6755, 1000, 1000),
                File(b"readable", b"x", 10, 0o644),
                File(b"group", b"x", 10, 0o660, 0, 3000),
                File(b"secret", b"x", 10, 0o600),
                File(b"none", b"x", 10, 0o000),
            ]
        ],
    )
    return union(layers).root


def test_what_a_stranger_may_not(root):
    assert as_user(lambda: read(root + b"/readable")) == 0
    for call, number in (
        (lambda: read(root + b"/secret"), errno.EACCES),
        (lambda: read(root + b"/none"), errno.EACCES),
        (lambda: write(root + b"/readable", b""), errno.EACCES),
        (lambda: os.truncate(root + b"/readable", 0), errno.EACCES),
        (lambda: os.lstat(root + b"/closed/inside"), errno.EACCES),
        (lambda: os.listdir(root + b"/closed"), errno.EACCES),
        (lambda: os.chmod(root + b"/readable", 0o777), errno.EPERM),
        (lambda: os.chown(root + b"/mine/file", 1001, -1), errno.EPERM),
        (lambda: os.utime(root + b"/readable", ns=(1, 1)), errno.EPERM),
        (lambda: os.utime(root + b"/readable"), errno.EACCES),
        (
            lambda: kernel.utimensat(root + b"/open", kernel.UTIME_NOW, kernel.UTIME_OMIT),
            errno.EPERM,
        ),
        (lambda: os.setxattr(root + b"/readable", "user.x", b""), errno.EACCES),
        (lambda: os.setxattr(root + b"/mine/file", "trusted.x", b""), errno.EPERM),
        (lambda: os.mkdir(root + b"/new"), errno.EACCES),
        (lambda: os.unlink(root + b"/readable"), errno.EACCES),
        (lambda: os.rename(root + b"/readable", root + b"/open/x"), errno.EACCES),
        (
            lambda: os.mknod(root + b"/open/dev", stat.S_IFCHR | 0o666, os.makedev(1, 3)),
            errno.EPERM,
        ),
    ):
        assert as_user(call) == number
    assert os.listdir(root + b"/open") == []


def test_links_to_what_others_own(root):
    """Only to what one may write as well, where fs.protected_hardlinks says so (proc(5))."""
    protected = read(b"/proc/sys/fs/protected_hardlinks") != b"0\n"
    for name, uid, number in (
        (b"/readable", 1000, errno.EPERM),
        (b"/mine/file", 1001, errno.EPERM),
        (b"/mine/file", 1000, 0),
        (b"/group", 1001, 0),
    ):
        words = (root + name, root + b"/open/%d" % uid)
        found = as_user(partial(os.link, *words), uid=uid, groups=(3000,))
        assert found == (number if protected else 0), words
        if not found:
            os.unlink(words[1])


def test_root_may_all(root):
    assert read(root + b"/none") == b"x" * 10
    write(root + b"/none", b"new")
    assert os.lstat(root + b"/none").st_mode & 0o777 == 0


def test_supplementary_groups_count(root):
    assert as_user(lambda: write(root + b"/group", b"x"), groups=(3000,)) == 0
    assert as_user(lambda: write(root + b"/group", b"x")) == errno.EACCES


def test_what_is_made_belongs_to_its_maker(root):
    def make() -> None:
        os.umask(0o027)
        os.mkdir(root + b"/open/dir", 0o777)
        write(root + b"/open/dir/file", b"")
        os.symlink(b"x", root + b"/open/link")
        os.mkfifo(root + b"/open/fifo", 0o666)

    assert as_user(make, uid=1234, gid=2345) == 0
    for name, mode in ((b"dir", 0o750), (b"dir/file", 0o640), (b"link", 0o777), (b"fifo", 0o640)):
        st = os.lstat(root + b"/open/" + name)
        assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (1234, 2345, mode)


def test_set_group_id_directories_hand_their_group_down(root):
    def make() -> None:
        os.mkdir(root + b"/setgid/dir")
        write(root + b"/setgid/file", b"")
        write(root + b"/setgid/dir/file", b"")
        os.symlink(b"x", root + b"/setgid/dir/link")

    assert as_user(make) == 0
    assert all(
        os.lstat(root + b"/setgid" + name).st_gid == 4000
        for name in (b"/dir", b"/file", b"/dir/file", b"/dir/link")
    )
    assert os.lstat(root + b"/setgid/dir").st_mode & 0o7777 == 0o2755


def test_set_group_id_without_execution_stays_when_root_changes_the_file(root):
    """Of a user namespace as well, whose root the kernel asks to take what may be taken."""
    path = root + b"/group"
    os.chmod(path, 0o2700)
    with opened(path, os.O_RDWR) as fd:
        os.write(fd, b"y")
        assert os.lstat(path).st_mode & 0o7777 == 0o2700
        os.ftruncate(fd, 1)
        assert os.lstat(path).st_mode & 0o7777 == 0o2700


def test_set_group_id_of_a_file_in_a_foreign_group_is_dropped(root):
    """open(…, 02755) in a set-group-id directory, by one who is not in that group."""

    def make() -> None:
        os.umask(0)
        with opened(root + b"/setgid/exe", os.O_CREAT | os.O_WRONLY, 0o2755):
            pass

    assert as_user(make) == 0
    assert os.lstat(root + b"/setgid/exe").st_mode & 0o7777 == 0o755


def test_sticky_directories(root):
    for name, number in ((b"/sticky/roots", errno.EPERM), (b"/sticky/theirs", errno.EPERM)):
        assert as_user(lambda name=name: os.unlink(root + name)) == number
        assert as_user(lambda name=name: os.rename(root + name, root + b"/sticky/x")) == number
    assert as_user(lambda: os.unlink(root + b"/sticky/theirs"), uid=1001) == 0


def test_set_id_bits_go_when_others_write(root):
    def owner_writes() -> None:
        with opened(root + b"/mine/suid", os.O_WRONLY) as fd:
            os.write(fd, b"x")

    assert as_user(owner_writes) == 0
    assert os.lstat(root + b"/mine/suid").st_mode & 0o7777 == 0o755


@pytest.mark.parametrize(("uid", "gid"), [(1001, -1), (-1, 1001), (-1, -1), (1000, 1000)])
def test_set_id_bits_go_with_every_chown(root, uid, gid):
    os.chown(root + b"/mine/suid", uid, gid)
    assert os.lstat(root + b"/mine/suid").st_mode & 0o7777 == 0o755


def test_a_stranger_cannot_take_set_id_bits(root):
    as_user(lambda: os.chown(root + b"/mine/suid", -1, -1), uid=1001, gid=1001)
    assert os.lstat(root + b"/mine/suid").st_mode & 0o7777 == 0o6755


def test_truncation_takes_set_id_bits(root):
    assert as_user(lambda: os.truncate(root + b"/mine/suid", 3)) == 0
    assert os.lstat(root + b"/mine/suid").st_mode & 0o7777 == 0o755


def test_truncation_on_open_takes_set_id_bits(root):
    os.chmod(root + b"/mine/suid", 0o6777)

    def truncate() -> None:
        os.close(os.open(root + b"/mine/suid", os.O_WRONLY | os.O_TRUNC))

    assert as_user(truncate, uid=1001, gid=1001) == 0
    assert os.lstat(root + b"/mine/suid").st_mode & 0o7777 == 0o777


def test_access(root):
    for name, mode, number in (
        (b"/readable", os.R_OK, 0),
        (b"/readable", os.W_OK, errno.EACCES),
        (b"/secret", os.R_OK, errno.EACCES),
        (b"/mine/file", os.W_OK, 0),
        (b"/closed", os.X_OK, errno.EACCES),
        (b"/missing", os.F_OK, errno.ENOENT),
    ):

        def ask(name=name, mode=mode, number=number) -> None:
            if os.access(root + name, mode) != (number == 0):
                raise OSError(errno.EIO, "not as expected")

        assert as_user(ask) == 0, name


def test_an_owner_may_chmod_without_root(root):
    assert as_user(lambda: os.chmod(root + b"/mine/file", 0o600)) == 0
    assert os.lstat(root + b"/mine/file").st_mode & 0o777 == 0o600
    assert as_user(lambda: os.chown(root + b"/mine/file", -1, 3000), groups=(3000,)) == 0
    assert os.lstat(root + b"/mine/file").st_gid == 3000


def test_read_only_mounts(scratch, union):
    """``ro`` and no upperdir at all: everything reads, every change is EROFS."""
    layers = build_stack(scratch + b"/s", [[File(b"d/f"), Symlink(b"l", b"d/f")]])
    write(layers.upper + b"/up", b"upper")
    for mounted in (
        union(layers, options=[b"ro"]),
        union(layers.read_only()),
    ):
        root = mounted.root
        assert read(root + b"/up") == b"upper"
        assert read(root + b"/l") == b"x" * 10
        for call in (
            lambda root=root: write(root + b"/new", b""),
            lambda root=root: write(root + b"/d/f", b""),
            lambda root=root: os.mkdir(root + b"/new"),
            lambda root=root: os.unlink(root + b"/d/f"),
            lambda root=root: os.rename(root + b"/d", root + b"/e"),
            lambda root=root: os.chmod(root + b"/d", 0o700),
            lambda root=root: os.utime(root + b"/d"),
            lambda root=root: os.setxattr(root + b"/d", "user.x", b""),
            lambda root=root: os.link(root + b"/d/f", root + b"/g"),
            lambda root=root: os.truncate(root + b"/d/f", 0),
        ):
            with refused(errno.EROFS):
                call()
        mounted.unmount()


def test_set_id_programs_run_with_their_owner_rights(scratch, union):
    """``suid`` is on for root's mounts, and off with nosuid."""
    layers = build_stack(scratch + b"/s", [[Dir(b"bin")]])
    program = layers.lowers[0] + b"/bin/id"
    subprocess.run(["cp", "/usr/bin/id", program], check=True)
    os.chmod(program, 0o4755)
    for options, uid in (((b"suid",), b"0"), ((b"nosuid",), b"1000")):
        mounted = union(layers, options=options)
        shown = subprocess.run(
            [mounted.root + b"/bin/id", "-u"], user=1000, check=True, capture_output=True
        )
        assert shown.stdout.strip() == uid
        mounted.unmount()


def test_devices_work_only_with_dev(scratch, union):
    layers = build_stack(scratch + b"/s", [[]])
    os.mknod(layers.lowers[0] + b"/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    mounted = union(layers, options=[b"dev"])
    write(mounted.root + b"/null", b"gone")
    mounted.unmount()
    mounted = union(layers, options=[b"suid"])
    with refused(errno.EACCES):
        write(mounted.root + b"/null", b"")
