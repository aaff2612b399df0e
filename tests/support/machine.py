"""What this machine can do, found out by trying, for tests that need a part of it.

Each probe returns None where the thing is there, else the reason that a skipped test prints.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache

from tests.support import ptrace
from tests.support.stacks import IN_NAMESPACE, ORDINARY
from unionfs.syscalls.mount import mount, umount

_NOT_A_DISK = {b"tmpfs", b"ramfs", b"overlay", b"aufs"}


@cache
def test_root() -> str:
    """Return a directory on a real disk for the tests' files.

    tmpfs takes no ``user.*`` attributes before Linux 6.6, and an overlayfs (the root of most
    containers) cannot be the upper directory of another; so the first that is neither is taken.
    """
    inside = os.path.join(os.path.dirname(__file__), "..", "..", ".cache", "tmp")
    candidates = [tempfile.gettempdir(), "/var/tmp", os.path.abspath(inside)]
    os.makedirs(candidates[-1], exist_ok=True)
    return next(
        (path for path in candidates if filesystem(path) not in _NOT_A_DISK), candidates[-1]
    )


def filesystem(path: str) -> bytes:
    """Return the filesystem type that *path* is on."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}".encode()
    with open("/proc/self/mountinfo", "rb") as table:
        for line in table:
            left, _, right = line.partition(b" - ")
            if left.split()[2] == wanted:
                return right.split()[0]
    return b"unknown"  # btrfs gives each subvolume a device number that no mount shows


@cache
def lacks_root() -> str | None:
    """Root in a container without CAP_SYS_ADMIN cannot write ``trusted.*``: so that is tried."""
    if ORDINARY:
        return None  # a run again as an ordinary user, of what he can do
    if os.geteuid() != 0:
        return "not root"
    if IN_NAMESPACE:
        return None  # a run again in a user namespace, of what can be had there
    with tempfile.TemporaryDirectory(dir=test_root()) as place:
        try:
            os.setxattr(place, "trusted.overlay.probe", b"x")
        except OSError as error:
            return f"root without CAP_SYS_ADMIN: trusted attributes fail ({error.strerror})"
    return None


@cache
def lacks_fuse() -> str | None:
    """The device must open, and who is not root needs the set-user-ID helper."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return f"/dev/fuse: {error.strerror}"
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        return "no fusermount3"
    return None


@cache
def lacks_kernel_overlay() -> str | None:
    """Mount one, as the tests that compare with it do."""
    if reason := lacks_root():
        return reason
    with tempfile.TemporaryDirectory(dir=test_root()) as place:
        names = [os.path.join(place, name) for name in ("lower", "upper", "work", "merged")]
        for name in names:
            os.mkdir(name)
        data = "lowerdir={},upperdir={},workdir={},redirect_dir=on,index=on,xino=on"
        try:
            mount(b"overlay", os.fsencode(names[3]), b"overlay", 0, data.format(*names).encode())
        except OSError as error:
            return f"the kernel's overlayfs does not mount here: {error.strerror}"
        umount(os.fsencode(names[3]))
    return None


@cache
def lacks_ptrace() -> str | None:
    """A container's seccomp filter may keep even root from tracing."""
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            ptrace.Calls(process.pid)
        except OSError as error:
            return f"ptrace(2): {error.strerror}"
        finally:
            os.kill(process.pid, signal.SIGKILL)
            while os.WIFSTOPPED(os.waitpid(process.pid, 0)[1]):
                pass  # Popen takes a tracee's stop for its end, and then kills nobody
    return None


@cache
def lacks_loop() -> str | None:
    """Containers have no block devices unless they are told to."""
    done = subprocess.run(["losetup", "--find"], capture_output=True, text=True, check=False)
    return f"no loop device: {done.stderr.strip()}" if done.returncode else None


MARKERS: dict[str, Callable[[], str | None]] = {
    "needs_fuse": lacks_fuse,
    "needs_root": lacks_root,
    "needs_kernel_overlay": lacks_kernel_overlay,
    "needs_ptrace": lacks_ptrace,
    "needs_loop": lacks_loop,
}
