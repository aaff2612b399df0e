"""What engines ask of a mount program, point by point, and where that is tested.

| point | test |
|---|---|
| four words, relative and unnormalised paths through links, empty options | test_helper_mount.test_read_write_as_containers_storage_calls |
| read-only calls of Buildah, `\\:` in a path, `private` | test_helper_mount.test_read_only_without_upper |
| mount.fuse3, as containerd calls it | test_helper_mount.test_through_mount_fuse3_as_containerd_calls, tests/engines/test_containerd.py |
| `-oX`, several `-o`, words in any order, `-f`, `-d`, `-V`, `-h` | test_helper |
| descriptors, session and directory of the daemon | here; tests/unit/daemon/test_start.py |
| exit status, one line on standard error, no mount | test_helper_mount.test_missing_lower_is_one_line_and_no_mount, tests/mount/test_refusals.py |
| 500 lowers, options longer than a page | here; tests/mount/test_layer_forms.py |
| f_type and st_dev | here |
| the ways to unmount, and the daemon's end | here |
| a new mount of an upper whose daemon is leaving | here |
| `work/incompat/volatile` | here; tests/unit/upper/test_work.py |
| a FUSE mount as a layer | here |
| escapes, quotes, an empty last layer | tests/unit/options/test_options.py, tests/mount/test_layer_forms.py |
| every option | docs/engines.md, tests/unit/options/test_engines.py |
| ID maps, squashing | tests/mount/test_owners.py |
| `xattr_permissions` | tests/mount/test_override.py, here for what fuse-overlayfs writes, for roots and capabilities |
| `volatile` syncs nothing | tests/mount/crash/test_power_cut.py |
| `--version` for `podman info` | tests/engines/test_podman.test_what_is_mounted_is_ours |
| AUFS whiteouts in every layer | tests/mount/test_layer_forms.test_aufs_whiteouts_in_lowers |
| what the kernel and fuse-overlayfs left in a store | tests/engines/test_changing_over.py |
| what storage's comparison of two mounts needs | tests/engines/test_podman.test_diff_after_a_directory_was_made_anew, test_podman_images.test_commit_and_run_what_was_committed |
| `-v src:dst:O`, Buildah | tests/engines/test_podman.test_an_overlay_volume, test_podman_images, test_rootless |
"""  # noqa: E501

from __future__ import annotations

import ctypes
import errno
import os
import re
import signal
import stat
import subprocess
import time

import pytest

from tests.cli.test_helper_mount import program, run, tree  # noqa: F401
from tests.support.mounts import OVERRIDE
from unionfs.daemon import client
from unionfs.syscalls.mount import mounts_at

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]

FUSE_SUPER_MAGIC = 0x65735546
SOON = 1.0  # seconds that a daemon may outlive its mount


def options(tree, more=""):  # noqa: F811
    return f"lowerdir={tree}/l1:{tree}/l2,upperdir={tree}/diff,workdir={tree}/work{more}"


def mount(tree, words=None):  # noqa: F811
    return run(program(tree), "-o", words or options(tree), f"{tree}/merged", cwd=tree)


def errno_once_gone(point):
    """Return what a listing of *point* fails with once its killed daemon is gone.

    Requests that the kernel is just aborting fail with ECONNABORTED, later ones with ENOTCONN.
    """
    answer = errno.ECONNABORTED
    deadline = time.monotonic() + 5
    while answer in (0, errno.ECONNABORTED) and time.monotonic() < deadline:
        try:
            os.listdir(point)
            answer = 0
        except OSError as error:
            answer = error.errno
    return answer


def daemons(tree):  # noqa: F811
    """Return the pids of the processes that serve mounts of *tree*."""
    mark = os.fsencode(tree)
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as words:
                if mark in words.read() and os.getpgid(int(pid)) == int(pid):
                    found.append(int(pid))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def gone(tree, seconds=SOON):  # noqa: F811
    end = time.monotonic() + seconds
    while daemons(tree) and time.monotonic() < end:
        time.sleep(0.02)
    return not daemons(tree)


def test_the_daemon_has_nothing_of_its_caller(tree):  # noqa: F811
    assert mount(tree).returncode == 0
    (pid,) = daemons(tree)
    assert os.getsid(pid) == pid and os.readlink(f"/proc/{pid}/cwd") == "/"
    for number in "012":
        assert os.readlink(f"/proc/{pid}/fd/{number}") == "/dev/null"


def test_what_storage_counts_mounts_by(tree):  # noqa: F811
    assert mount(tree).returncode == 0
    buffer = (ctypes.c_long * 32)()
    merged = os.fsencode(tree / "merged")
    assert ctypes.CDLL(None).statfs(merged, buffer) == 0 and buffer[0] == FUSE_SUPER_MAGIC
    assert os.stat(merged).st_dev != os.stat(tree).st_dev


@pytest.mark.parametrize(
    "words", [["fusermount3", "-u"], ["fusermount", "-u"], ["umount"], ["umount", "-l"]]
)
def test_ways_to_unmount(tree, words):  # noqa: F811
    """The mount point can be renamed at once, and the daemon leaves by itself."""
    assert mount(tree).returncode == 0
    (tree / "merged" / "new").write_text("x")
    assert run(*words, f"{tree}/merged").returncode == 0
    os.rename(tree / "merged", tree / "away")
    assert gone(tree) and os.listdir(tree / "away") == []
    assert os.listdir(tree / "diff") == ["new"]
    os.rename(tree / "away", tree / "merged")


def test_a_new_mount_while_the_old_daemon_leaves(tree):  # noqa: F811
    for number in range(3):
        assert mount(tree).returncode == 0
        (tree / "merged" / f"file{number}").touch()
        client.unmount(os.fsencode(tree / "merged"))
    assert mount(tree).returncode == 0
    held = os.open(tree / "merged" / "file0", os.O_RDONLY)
    assert run("umount", "-l", f"{tree}/merged").returncode == 0
    words = [program(tree), "-o", options(tree), f"{tree}/merged"]
    with subprocess.Popen(words, cwd=tree) as waiting:
        time.sleep(0.7)
        assert waiting.poll() is None, "it did not wait for the daemon that still serves"
        os.close(held)
        assert waiting.wait(20) == 0
    assert sorted(os.listdir(tree / "merged")) == ["a", "b", "file0", "file1", "file2"]


def test_a_volatile_upper_whose_daemon_was_killed(tree):  # noqa: F811
    """Refused, until storage has removed the mark, as it does before each mount."""
    mark = tree / "work" / "work" / "incompat" / "volatile"
    assert mount(tree, options(tree, ",volatile")).returncode == 0
    assert mark.is_dir()
    (pid,) = daemons(tree)
    os.kill(pid, signal.SIGKILL)
    assert errno_once_gone(tree / "merged") == errno.ENOTCONN
    assert run("umount", f"{tree}/merged").returncode == 0
    refused = mount(tree)
    assert refused.returncode == 1 and "incompat/volatile" in refused.stderr
    subprocess.run(["rm", "-r", mark], check=True)
    assert mount(tree).returncode == 0


def test_a_mount_of_ours_as_a_layer(tree):  # noqa: F811
    for name in ("over", "u2", "w2"):
        (tree / name).mkdir()
    assert mount(tree).returncode == 0
    words = f"lowerdir={tree}/merged,upperdir={tree}/u2,workdir={tree}/w2,private"
    try:
        done = run(program(tree), "-o", words, f"{tree}/over")
        assert done.returncode == 0, done.stderr
        (tree / "over" / "a").write_text("changed")
        (tree / "over" / "b").unlink()
        assert (tree / "merged" / "a").read_text() == "one"
        assert os.listdir(tree / "over") == ["a"]
    finally:
        while mounts_at(os.fsencode(tree / "over")):
            client.unmount(os.fsencode(tree / "over"), lazy=True)


def test_five_hundred_layers_through_links(tree):  # noqa: F811
    """In the background, with options far longer than mount(2) takes."""
    names = []
    for number in range(500):
        (tree / f"layer{number}").mkdir()
        (tree / f"layer{number}" / f"f{number}").touch()
        name = f"{number:026d}"
        os.symlink(f"../layer{number}", tree / "l" / name)
        names.append(f"{tree}/l/{name}")
    words = f"lowerdir={':'.join(names)},upperdir={tree}/diff,workdir={tree}/work"
    assert len(words) > 4 * os.sysconf("SC_PAGESIZE")
    done = mount(tree, words)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(os.listdir(tree / "merged")) == 500


@pytest.mark.parametrize("kind", [1, 2])
def test_owners_that_fuse_overlayfs_wrote(tree, kind):  # noqa: F811
    """And the other way round: what each wrote down with xattr_permissions, the other shows."""
    ours, theirs = program(tree), "fuse-overlayfs"
    words = options(tree, f",xattr_permissions={kind}")
    merged = tree / "merged"
    seen = []
    for number, writer in enumerate((theirs, ours, theirs)):
        assert run(writer, "-o", words, f"{merged}").returncode == 0
        if seen:
            now = _owners(merged)
            assert {name: now[name] for name in seen[-1]} == seen[-1], writer
        new = merged / f"new{number}"
        new.write_text("x")
        os.chown(new, 5 + number, 6)
        os.chmod(new, 0o640)
        (merged / f"dir{number}").mkdir(0o750)
        os.chown(merged / f"dir{number}", 7, 8)
        seen.append(_owners(merged))
        assert run("umount", f"{merged}").returncode == 0
        assert gone(tree, 5)


@pytest.mark.parametrize(
    ("below", "shown"), [(b"7:8:0711:dir", (7, 8, 0o711)), (None, (0, 0, 0o555))]
)
def test_an_upper_whose_root_has_no_owner(tree, below, shown):  # noqa: F811
    """It takes that of the topmost layer that has one, or is closed to writing."""
    if below is not None:
        os.setxattr(tree / "l2", OVERRIDE, below)
    assert mount(tree, options(tree, ",xattr_permissions=2")).returncode == 0
    st = os.stat(tree / "merged")
    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == shown
    assert os.getxattr(tree / "diff", OVERRIDE).startswith(b"%d:%d:0%o" % shown)


def test_capabilities_are_kept_as_owners_are(tree):  # noqa: F811
    """With xattr_permissions=2, in an attribute that any filesystem and any user may have."""
    value = bytes.fromhex("0100000200040000" + "00000000" * 3)
    assert mount(tree, options(tree, ",xattr_permissions=2")).returncode == 0
    os.setxattr(tree / "merged" / "a", "security.capability", value)
    assert os.getxattr(tree / "merged" / "a", "security.capability") == value
    kept = os.listxattr(tree / "diff" / "a")
    assert "user.containers.override_security.capability" in kept
    assert "security.capability" not in kept


def _owners(folder):
    found = {}
    for name in os.listdir(folder):
        if re.match("new|dir", name):
            st = os.lstat(folder / name)
            found[name] = st.st_uid, st.st_gid, stat.filemode(st.st_mode)
    return found
