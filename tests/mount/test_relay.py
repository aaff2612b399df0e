"""The extension where libfuse refuses custom I/O, as 3.18.3 does: it is used all the same.

All tests of the extension again, with the refusal played, and what only that way does.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import threading

import pytest

from tests.mount.test_extension import *  # noqa: F403
from tests.support import kernel
from tests.support.extension import stats
from tests.support.files import read, write
from tests.support.files import refused as refused_call
from tests.support.stacks import Dir, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_extension]
MOST = 1 << 20  # bytes of a message, MOST_DATA in _relay.c


@pytest.fixture(autouse=True)
def refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have libfuse's refusal played in every daemon that this module's tests start."""
    monkeypatch.setenv("UNIONFS_RELAY", "1")


@pytest.fixture
def tree(scratch):
    return build_stack(scratch + b"/s", [[Dir(b"d")]])


@pytest.fixture
def mounted(union, tree):
    return union(tree)


def test_stats_say_so(mounted):
    modes = stats(mounted.root)["modes"]
    assert {one["mode"]: (one["is"], one["because"]) for one in modes}["extension"] == (
        "in use",
        "libfuse has no custom I/O: replies are copied",
    )


def test_messages_of_every_size(mounted, tree):
    """Through Python, too: a file that is opened with O_DIRECT is read in the largest pieces."""
    content = os.urandom(5 * MOST)
    write(mounted.root + b"/d/big", content)
    assert read(tree.upper + b"/d/big") == content
    got = subprocess.run(
        ["dd", f"if={os.fsdecode(mounted.root)}/d/big", "bs=4M", "iflag=direct", "status=none"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    assert got == content
    value = os.urandom(3000)
    os.setxattr(mounted.root + b"/d/big", "user.much", value)
    assert os.getxattr(mounted.root + b"/d/big", "user.much") == value
    os.symlink(b"t" * 4095, mounted.root + b"/d/link")
    assert os.readlink(mounted.root + b"/d/link") == b"t" * 4095


def test_a_reply_that_there_is_no_room_for_is_an_error(mounted):
    """As where memory is short: the daemon lives, and nobody waits."""
    names = [b"a rather long name of a file, number %d" % number for number in range(300)]
    for name in names:
        write(mounted.root + b"/d/" + name, b"")
    pid = stats(mounted.root)["pid"]
    mounted.expect_errors = True
    limit = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, limit[1]))
    with refused_call(errno.EIO):
        os.listdir(mounted.root + b"/d")
    resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
    assert sorted(os.listdir(mounted.root + b"/d")) == sorted(names)


def test_many_at_once(mounted, tree):
    """Their replies come from handlers that wait, and from those that need not, in any order."""
    wrong: list[str] = []

    def work(number: int) -> None:
        at = mounted.root + b"/d/%d" % number
        os.mkdir(at)
        for turn in range(40):
            text = b"%d %d" % (number, turn)
            write(at + b"/new", text)
            os.rename(at + b"/new", at + b"/f")
            if read(at + b"/f") != text or os.listdir(at) != [b"f"]:
                wrong.append(text.decode())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert sorted(os.listdir(tree.upper + b"/d")) == [b"%d" % n for n in range(8)]


def test_unmounted_it_leaves_what_is_mounted_below(union, tree, scratch):
    """libfuse unmounts in the end, unless it learns from the device that somebody did already."""
    os.mkdir(scratch + b"/union0")
    kernel.mount(b"tmpfs", scratch + b"/union0", b"tmpfs")
    mounted = union(tree)
    assert mounted.root == scratch + b"/union0"
    pid = stats(mounted.root)["pid"]
    held = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    assert [name for name in held if name == "/dev/fuse"] == ["/dev/fuse"]
    mounted.unmount()
    assert kernel.mounted_at(mounted.root) == b"tmpfs"
