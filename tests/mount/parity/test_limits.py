"""What FUSE lets no daemon answer as a local filesystem does: each with what a program sees.

The tables leave these calls out, because the plain directory and the kernel's overlayfs agree about
them and we cannot. Should one of these tests fail, the kernel has learned it: then it is a table's.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import mmap
import os
import select
import struct

import pytest

from tests.support.files import as_user, opened, read, refused
from tests.support.rawcalls import (
    COLLAPSE,
    FS_APPEND,
    FS_IMMUTABLE,
    INSERT,
    UNSHARE,
    ZERO,
    chown,
    fallocate,
    fs_flags,
    set_fs_flags,
)
from tests.support.stacks import File, build_stack
from unionfs.syscalls import flags

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

_FS_IOC_FIEMAP = 0xC020660B


@pytest.fixture
def root(scratch, union):
    files = [File(b"f", b"x", 8192, 0o666), File(b"suid", b"x", 10, 0o4777)]
    return union(build_stack(scratch + b"/s", [files])).root


@pytest.mark.parametrize("mode", [COLLAPSE, INSERT, UNSHARE])
def test_no_ranges_are_cut_out_or_put_in(root, mode):
    """fuse_file_fallocate() refuses all modes but KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE."""
    with opened(root + b"/f", os.O_RDWR) as fd, refused(errno.EOPNOTSUPP):
        fallocate(fd, mode, 0, 4096)
    assert len(read(root + b"/f")) == 8192


@pytest.mark.needs_extension
def test_a_stranger_may_ask_for_chown_to_the_same(root):
    """chown(-1, -1) on a set-id file is EPERM elsewhere; here it does nothing. See setattr."""
    before = os.lstat(root + b"/suid")
    assert as_user(lambda: chown(os.fsdecode(root + b"/suid"), -1, -1)) == 0
    after = os.lstat(root + b"/suid")
    assert (before.st_mode, before.st_ctime_ns) == (after.st_mode, after.st_ctime_ns)


@pytest.mark.needs_extension
def test_a_write_takes_all_privileges_together(root):
    """Root's write takes a file's capability, and elsewhere no set-id bits. But the kernel asks for
    that in the words of chown(-1, -1), which takes both: REMOVEXATTR and a SETATTR of nothing."""
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr(root + b"/suid", "security.capability", capability)
    with opened(root + b"/suid", os.O_WRONLY) as fd:
        os.write(fd, b"y")
    assert os.stat(root + b"/suid").st_mode & 0o7777 == 0o777


@pytest.mark.needs_extension
def test_fallocate_takes_set_id_bits_though_it_is_refused(root):
    """fuse_file_fallocate() asks for it before it asks us. Elsewhere it is the filesystem that
    refuses first what it does not do, as tmpfs does a range of zeros; here FUSE itself does not."""
    change = functools.partial(_allocate, root + b"/suid", ZERO)
    answer = as_user(change)
    mode = os.stat(root + b"/suid").st_mode & 0o7777
    assert (answer, mode) in ((0, 0o777), (errno.EOPNOTSUPP, 0o777))


def _allocate(path: bytes, mode: int) -> None:
    with opened(path, os.O_WRONLY) as fd:
        fallocate(fd, mode, 0, 3)


@pytest.mark.parametrize("unwritten", [True, False])
def test_times_do_not_outlive_what_a_mapping_writes(root, unwritten):
    """Elsewhere a page's first change sets mtime, here its writing, which the kernel puts off until
    msync(2), munmap(2) or close(2): after utimensat(2), if that comes in between."""
    with opened(root + b"/f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as mapped:
        mapped[0:1] = b"y"
        if not unwritten:
            mapped.flush()
        os.utime(root + b"/f", ns=(9, 9))
        mapped.flush()
    assert (os.stat(root + b"/f").st_mtime_ns == 9) is not unwritten


def test_nobody_says_where_on_the_disk_a_file_is(root):
    """FS_IOC_FIEMAP, which filefrag(8) asks: FUSE's inodes have no such operation."""
    whole_file = struct.pack("=QQIIII", 0, 1 << 40, 0, 0, 0, 0)
    with opened(root + b"/f", os.O_RDONLY) as fd, refused(errno.EOPNOTSUPP):
        fcntl.ioctl(fd, _FS_IOC_FIEMAP, whole_file)


def test_fanotify_takes_no_whole_mount_with_names(root):
    """FUSE's statfs(2) has no f_fsid for its events (ENODEV); the kernel's overlayfs has no file
    handles for them (EOPNOTSUPP), unless nfs_export is on."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.fanotify_init(0xE00, os.O_RDONLY)  # FAN_REPORT_FID, _DIR_FID and _NAME
    mark = (fd, 0x101, ctypes.c_uint64(0x100), -100, root)  # ADD, FILESYSTEM; FAN_CREATE
    try:
        assert libc.fanotify_mark(*mark) == -1
        assert ctypes.get_errno() == errno.ENODEV
    finally:
        os.close(fd)


@pytest.mark.needs_extension
def test_a_nameless_file_has_no_number_for_a_name(root):
    """d_tmpfile() calls a file of O_TMPFILE "#" and its number; FUSE leaves the name empty."""
    with opened(root, os.O_TMPFILE | os.O_RDWR) as fd:
        assert os.readlink(b"/proc/self/fd/%d" % fd) == os.path.realpath(root) + b"// (deleted)"


@pytest.mark.needs_extension
def test_a_file_that_only_grows_opens_for_writing_anywhere_and_is_not_written_there(root):
    """As for immutable ones: elsewhere opening without O_APPEND is what is refused."""
    with opened(root + b"/f", os.O_RDONLY) as fd:
        set_fs_flags(fd, FS_APPEND)
        try:
            with opened(root + b"/f", os.O_WRONLY) as writer, refused(errno.EPERM):
                os.pwrite(writer, b"y", 1)
        finally:
            set_fs_flags(fd, 0, FS_APPEND)
    assert read(root + b"/f") == b"x" * 8192


def test_direct_writes_may_be_of_any_size(root):
    """Past the page cache a disk takes whole blocks; the kernel's side of FUSE asks for none."""
    with opened(root + b"/f", os.O_WRONLY | os.O_DIRECT) as fd:
        assert os.pwrite(fd, b"y", 1) == 1
    assert read(root + b"/f")[:3] == b"xyx"


def test_statx_tells_no_time_of_birth(root):
    """The kernel asks for it (FUSE_STATX, Linux 6.6) in a request that pyfuse3 does not know."""
    found, wanted = ctypes.create_string_buffer(256), 0x800  # STATX_BTIME
    assert ctypes.CDLL(None).statx(-1, root + b"/f", 0, wanted, found) == 0
    assert not struct.unpack_from("=I", found)[0] & wanted


def test_what_goes_through_a_fifo_leaves_its_times(root):
    """Elsewhere pipe_write() sets mtime; FUSE's inodes leave times to the daemon, which hears of no
    byte of it."""
    os.mkfifo(root + b"/fifo")
    os.utime(root + b"/fifo", ns=(9, 9))
    with opened(root + b"/fifo", os.O_RDWR) as fd:
        assert (os.write(fd, b"y"), os.read(fd, 1)) == (1, b"y")
        assert (os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns) == (9, 9)


def test_files_can_be_waited_for(root):
    """epoll_ctl(2) refuses files (EPERM) where the filesystem has no poll; FUSE always has one."""
    with opened(root + b"/f", os.O_RDONLY) as fd, select.epoll() as waiting:
        waiting.register(fd, select.EPOLLIN)
        assert waiting.poll(0) == [(fd, select.EPOLLIN)]


@pytest.mark.needs_extension
def test_statx_does_not_say_what_protects_a_file(root):
    """The kernel takes no attributes (statx(2)) from FUSE."""
    with opened(root + b"/f", os.O_RDONLY) as fd:
        set_fs_flags(fd, FS_IMMUTABLE)
        try:
            assert fs_flags(fd) & FS_IMMUTABLE
            assert flags.protecting(fd) == 0
        finally:
            set_fs_flags(fd, 0, FS_IMMUTABLE)


@pytest.mark.needs_extension
def test_an_immutable_file_opens_for_writing_and_is_not_written(root):
    """FUSE's inodes have no such flag for the kernel to look at, and opening asks nobody."""
    with opened(root + b"/f", os.O_RDONLY) as fd:
        set_fs_flags(fd, FS_IMMUTABLE)
        try:
            with opened(root + b"/f", os.O_WRONLY) as writer, refused(errno.EPERM):
                os.write(writer, b"y")
        finally:
            set_fs_flags(fd, 0, FS_IMMUTABLE)
    assert read(root + b"/f") == b"x" * 8192
