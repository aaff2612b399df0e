"""What the machine may lack, said with what to do about it."""

import errno
import os

import pytest

from unionfs.daemon import mountpoint
from unionfs.options import MountConfig

PLAIN = MountConfig((b"/l",))
FOR_ALL = MountConfig((b"/l",), allow_other=True)


@pytest.fixture
def device(tmp_path, monkeypatch):
    """A stand-in for /dev/fuse that can be opened."""
    path = tmp_path / "fuse"
    path.touch()
    monkeypatch.setattr(mountpoint, "DEVICE", str(path))
    return path


@pytest.fixture
def ordinary_user(monkeypatch, tmp_path, device):
    """An ordinary user with fusermount3 in PATH and an empty /etc/fuse.conf."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    (tmp_path / "fusermount3").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    conf = tmp_path / "fuse.conf"
    conf.write_text("#user_allow_other\nmount_max = 5\n")
    monkeypatch.setattr(mountpoint, "_FUSE_CONF", str(conf))
    return conf


def test_no_device(device):
    device.unlink()
    with pytest.raises(mountpoint.NoFuseError, match="missing: load the kernel module"):
        mountpoint.check_machine(PLAIN)


@pytest.mark.parametrize(
    ("number", "told"),
    [(errno.ENODEV, "modprobe fuse"), (errno.EPERM, "--device"), (errno.EACCES, "chmod 0666")],
)
def test_device_that_does_not_open(device, monkeypatch, number, told):
    def refuse(path, flags):
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(mountpoint.NoFuseError, match=told):
        mountpoint.check_machine(PLAIN)


def test_other_failures_stay_what_they_are(device, monkeypatch):
    def fail(path, flags):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), path)

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(OSError, match="Too many open files"):
        mountpoint.check_machine(PLAIN)


def test_ordinary_user_without_fusermount(ordinary_user, monkeypatch):
    mountpoint.check_machine(PLAIN)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(mountpoint.NoFuseError, match="install the package fuse3"):
        mountpoint.check_machine(PLAIN)


def test_ordinary_user_opens_to_others_only_where_permitted(ordinary_user):
    with pytest.raises(mountpoint.NoFuseError, match="user_allow_other"):
        mountpoint.check_machine(FOR_ALL)
    ordinary_user.write_text("# yes\n user_allow_other \n")
    mountpoint.check_machine(FOR_ALL)
    ordinary_user.unlink()
    with pytest.raises(mountpoint.NoFuseError, match="user_allow_other"):
        mountpoint.check_machine(FOR_ALL)


def test_root_needs_neither(device, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    mountpoint.check_machine(FOR_ALL)
