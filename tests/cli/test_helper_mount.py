"""The mount-helper form with real mounts, called as engines and mount(8)'s helper call it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile

import pytest

from tests.support.kernel import release
from unionfs.daemon import client
from unionfs.syscalls.mount import mounts_at

pytestmark = pytest.mark.needs_fuse
ROOT = os.getcwd()


@pytest.fixture
def tree(tmp_path):
    """Two lowers, an upper, a work directory and a mount point, as engines lay them out."""
    for name in ("l1", "l2", "empty", "diff", "work", "merged", "l"):
        (tmp_path / name).mkdir()
    (tmp_path / "l1" / "a").write_text("one")
    (tmp_path / "l2" / "b").write_text("two")
    (tmp_path / "l2" / "a").write_text("hidden")
    yield tmp_path
    point = os.fsencode(tmp_path / "merged")
    while mounts_at(point):
        client.unmount(point, lazy=True)


def program(directory, name="unionfs"):
    """Make a program *name* that is this project's command."""
    path = directory / name
    path.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {ROOT!r})\n"
        "from unionfs.cli.main import entry\nentry()\n"
    )
    path.chmod(0o755)
    return str(path)


def run(*words, **kwargs):
    return subprocess.run(words, capture_output=True, text=True, timeout=60, **kwargs)


def test_read_write_as_containers_storage_calls(tree):
    """Relative lowers through links, empty options, output read to its end."""
    os.symlink("../l1", tree / "l" / "AAAA")
    options = f"lowerdir=l/AAAA:l/AAAA/../l2,upperdir={tree}/diff,workdir={tree}/work,,volatile,"
    done = run(program(tree), "-o", options, f"{tree}/merged", cwd=tree)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tree / "merged" / "a").read_text() == "one"
    (tree / "merged" / "b").write_text("changed")
    client.unmount(os.fsencode(tree / "merged"))
    assert (tree / "diff" / "b").read_text() == "changed"
    assert (tree / "l2" / "b").read_text() == "two"


def test_read_only_without_upper(tree):
    (tree / "src:1").mkdir()
    (tree / "src:1" / "f").touch()
    options = rf"lowerdir={tree}/src\:1:{tree}/empty,private"
    done = run(program(tree), "-o", options, f"{tree}/merged")
    assert (done.returncode, done.stderr) == (0, "unknown argument ignored: private\n")
    assert os.listdir(tree / "merged") == ["f"]
    with pytest.raises(OSError, match="Read-only"):
        (tree / "merged" / "g").touch()


def test_mount_table_tells_type_and_source(tree):
    (tree / "merged" / "hidden").touch()
    done = run(program(tree), "overlay", f"{tree}/merged", "-o", f"lowerdir={tree}/l1")
    assert done.returncode == 0, done.stderr
    (entry,) = mounts_at(os.fsencode(tree / "merged"))
    assert (entry.kind, entry.source) == (b"fuse.unionfs", b"overlay")
    assert {b"nodev", b"noatime"} <= set(entry.options.split(b","))


def test_through_mount_fuse3_as_containerd_calls(tree):
    helper = shutil.which("mount.fuse3", path="/usr/sbin:/sbin:/usr/bin")
    assert helper, "mount.fuse3 is in the package fuse3, as fusermount3"
    options = ["-o", f"lowerdir={tree}/l1:{tree}/l2", "-o", f"upperdir={tree}/diff"]
    options += ["-o", f"workdir={tree}/work"]
    done = run(helper, "overlay", f"{tree}/merged", *options, "-t", program(tree))
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tree / "merged")) == ["a", "b"]


def test_as_mount_fake_mounts_nothing(tree):
    helper = program(tree, "mount.fuse.unionfs")
    words = ["overlay", f"{tree}/merged", "-o", f"lowerdir={tree}/l1"]
    assert run(helper, *words, "-f").returncode == 0
    assert not client.is_ours(os.fsencode(tree / "merged"))
    assert run(helper, *words, "-n").returncode == 0
    assert client.is_ours(os.fsencode(tree / "merged"))


def test_missing_lower_is_one_line_and_no_mount(tree):
    done = run(program(tree), "-o", f"lowerdir={tree}/no", f"{tree}/merged")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == f"unionfs: error: lowerdir {tree}/no: No such file or directory\n"
    assert not client.is_ours(os.fsencode(tree / "merged"))


_AS_USER = """
import json, os, sys
sys.path.insert(0, {root!r})
import trio, pyfuse3, unionfs.fuse.session  # while their files can be read
from unionfs.cli import helper, main
from unionfs.daemon import client, holders, mountpoint, spawn
from unionfs.syscalls import mount
import subprocess
mount.mount(b"", b"/", b"", mount.MS_REC | mount.MS_PRIVATE)
os.mknod("fuse", 0o20666, os.makedev(10, 229)); os.chmod("fuse", 0o666)
mount.mount(b"fuse", b"/dev/fuse", b"", mount.MS_BIND)
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
mounted = main.main(["unionfs", "-o", "lowerdir=l,upperdir=u,workdir=w", "m"])
(entry,) = mount.mounts_at(os.path.realpath(b"m"))
with open("m/new", "w") as file:
    file.write("mine")
os.unlink("m/a")
held = os.open("m", os.O_PATH)
try:
    client.unmount(b"m")
except Exception as error:
    busy = str(error)
os.close(held)
client.unmount(b"m")
print(json.dumps([mounted, entry.options.decode(), busy, os.getpid(), sorted(os.listdir("u"))]))
"""


@pytest.mark.needs_root
def test_ordinary_user_with_fusermount3():
    """In a mount namespace of its own, with a /dev/fuse for everybody as distributions have it."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        for name in "luwm":
            os.mkdir(f"{place}/{name}")
            os.chown(f"{place}/{name}", 65534, 65534)
        with open(f"{place}/l/a", "w"):
            pass
        script = _AS_USER.format(root=ROOT)
        done = run("unshare", "-m", sys.executable, "-c", script, cwd=place)
        assert done.stderr == ""
        mounted, options, busy, pid, names = json.loads(done.stdout)
        assert mounted == 0 and {"nosuid", "nodev"} <= set(options.split(","))
        assert f"({pid})" in busy and names == ["a", "new"]


@pytest.mark.skipif(
    release() < (6, 10), reason="Linux before 6.10 does not tell who serves a mount"
)
def test_a_mount_of_another_subtype_is_ours_too(tree):
    point = tree / "merged"
    options = f"lowerdir={tree}/l2,upperdir={tree}/diff,workdir={tree}/work,subtype=other"
    assert run(program(tree), "-o", options, point).returncode == 0
    assert mounts_at(os.fsencode(point))[-1].kind == b"fuse.other"
    with open(point / "b"):
        refused = run(program(tree), "umount", point)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"{point} is in use by" in refused.stderr
    assert run(program(tree), "umount", point).returncode == 0
    assert os.listdir(point) == []
