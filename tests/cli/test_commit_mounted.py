"""commit of a container that is mounted and at work: one state of it, and it goes on."""

from __future__ import annotations

import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import leftovers, trees
from tests.support.command import Cli
from tests.support.kernel import own_mount_namespace
from unionfs.daemon.client import FrozenError, frozen, wait_gone
from unionfs.syscalls.mount import mount_table

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


@pytest.fixture
def root(cli: Cli) -> Iterator[Path]:
    """The mount of the container ``one``."""
    if not leftovers.in_own_namespace():
        own_mount_namespace()
    cli("create", "tiny", "--name", "one")
    yield Path(cli("mount", "one").strip())
    cli.tidy()
    for image in cli.json("image", "ls"):
        if image["names"] != ["tiny:latest"]:
            cli("image", "rm", "--force", image["id"])


def layer_of(cli: Cli, image: str) -> Path:
    """Return the directory of an image's topmost layer."""
    top = cli.json("image", "inspect", image)["layers"][-1]["diff_id"]
    return Path(cli.json("layer", "inspect", top)["path"])


def test_the_image_is_what_is_mounted(cli: Cli, root: Path, target: Path) -> None:
    subprocess.run(["sh", "-ec", "mv etc moved; echo x > new; rm bin/sleep"], cwd=root, check=True)
    before = trees.snapshot(os.fsencode(root))
    cli("commit", "one", "two")
    after = trees.snapshot(os.fsencode(root))
    trees.assert_same(before, after, ("before", "after"))
    cli("mount", "--image", "two", str(target))
    try:
        trees.assert_same(before, trees.snapshot(os.fsencode(target)), ("container", "image"))
    finally:
        cli("umount", str(target))


def test_changes_wait_and_go_on(cli: Cli, root: Path) -> None:
    """Each generation renames a whole directory; what is committed is one of them, complete."""
    stop = threading.Event()
    rounds = 0

    def work() -> None:
        nonlocal rounds
        while not stop.is_set():
            fresh = root / "fresh"
            fresh.mkdir()
            for number in range(5):
                (fresh / str(number)).write_text(f"{rounds}\n" * 2000)
            if (root / "now").exists():
                (root / "now").rename(root / "old")
            fresh.rename(root / "now")
            if (root / "old").exists():
                for number in range(5):
                    (root / "old" / str(number)).unlink()
                (root / "old").rmdir()
            rounds += 1

    worker = threading.Thread(target=work)
    worker.start()
    try:
        while rounds < 2:
            time.sleep(0.01)
        for number in range(4):
            done = rounds
            cli("commit", "one", f"two:{number}")
            while rounds < done + 2:  # it goes on
                time.sleep(0.01)
            layer = layer_of(cli, f"two:{number}")
            place = layer / ("now" if (layer / "now").exists() else "fresh")
            texts = {(place / str(one)).read_text() for one in range(5)}
            assert len(texts) == 1
            (text,) = texts
            assert text == text.splitlines()[0].join(["", "\n"]) * 2000
    finally:
        stop.set()
        worker.join()


def test_what_is_mapped_shared_is_named_and_refused(cli: Cli, root: Path) -> None:
    (root / "mapped").write_bytes(bytes(8192))
    with open(root / "mapped", "r+b") as file, mmap.mmap(file.fileno(), 8192) as view:
        view[:4] = b"live"
        error = cli.fails("commit", "one", "two")
        assert str(root / "mapped") in error
        assert str(os.getpid()) in error
        assert "--live" in error
        cli("commit", "one", "two", "--live")
        assert (layer_of(cli, "two") / "mapped").read_bytes()[:4] == b"live"
        view[4:8] = b"more"
    cli("commit", "one", "three")
    assert (layer_of(cli, "three") / "mapped").read_bytes()[:8] == b"livemore"


def test_a_private_map_and_an_open_file_do_not_matter(cli: Cli, root: Path) -> None:
    (root / "file").write_bytes(b"x" * 8192)
    with open(root / "file", "r+b", buffering=0) as file:
        view = mmap.mmap(file.fileno(), 8192, access=mmap.ACCESS_COPY)
        view[:1] = b"z"
        file.write(b"written")
        cli("commit", "one", "two")
        view.close()
    assert (layer_of(cli, "two") / "file").read_bytes()[:8] == b"writtenx"


MAPPER = """
import mmap, sys, time
file = open(sys.argv[1], "r+b")
view = mmap.mmap(file.fileno(), 4096)
view[:6] = b"paused"
print("mapped", flush=True)
while True:
    time.sleep(1)
"""


class Group:
    """A control group of either version, to pause what is in it."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._path = self._root() / f"unionfs-test-{os.getpid()}"
        try:
            self._path.mkdir()
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error.strerror}")

    def _root(self) -> Path:
        kind = b"cgroup2" if self._version == 2 else b"cgroup"
        for entry in mount_table():
            if entry.kind == kind and (self._version == 2 or b"freezer" in entry.super_options):
                return Path(os.fsdecode(entry.target))
        pytest.skip(f"no control groups of version {self._version} with a freezer here")

    def add(self, pid: int) -> None:
        (self._path / "cgroup.procs").write_text(str(pid))

    def pause(self, *, really: bool) -> None:
        if self._version == 2:
            (self._path / "cgroup.freeze").write_text(str(int(really)))
            state, wanted = self._path / "cgroup.events", f"frozen {int(really)}"
        else:
            wanted = "FROZEN" if really else "THAWED"
            state = self._path / "freezer.state"
            state.write_text(wanted)
        while wanted not in state.read_text():
            time.sleep(0.01)

    def remove(self) -> None:
        while (self._path / "cgroup.procs").read_text():
            time.sleep(0.01)
        self._path.rmdir()


@pytest.mark.parametrize("version", [1, 2])
def test_processes_that_are_paused_may_have_maps(cli: Cli, root: Path, version: int) -> None:
    (root / "mapped").write_bytes(bytes(4096))
    group = Group(version)
    process = subprocess.Popen(
        [sys.executable, "-c", MAPPER, str(root / "mapped")], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        group.add(process.pid)
        assert "mapped" in cli.fails("commit", "one", "two")
        group.pause(really=True)
        cli("commit", "one", "two")
        assert (layer_of(cli, "two") / "mapped").read_bytes()[:6] == b"paused"
    finally:
        group.pause(really=False)
        process.kill()
        process.communicate()
        group.remove()


def test_a_commit_that_is_killed_lets_the_container_go_on(cli: Cli, root: Path) -> None:
    for number in range(40):
        (root / f"big{number}").write_bytes(os.urandom(1 << 20))
    for delay in (0.15, 0.3, 0.45, 0.6):
        process = cli.start("commit", "one", "two")
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        (root / "after").write_text(str(delay))
        assert (root / "after").read_text() == str(delay)
    cli("commit", "one", "two")
    assert (layer_of(cli, "two") / "big39").stat().st_size == 1 << 20
    assert os.listdir(cli.root / "tmp") == []


def test_who_asks_nonsense_disturbs_nobody(cli: Cli, root: Path) -> None:
    path = cli.container("one") / "control"
    assert path.stat().st_mode & 0o777 == 0o600
    for words in (b"nonsense\n", b"[1]\n", b'{"do": "fly"}\n', b"x" * 10000, b""):
        with socket.socket(socket.AF_UNIX) as connection:
            here = os.open(path.parent, os.O_PATH)
            connection.connect(f"/proc/self/fd/{here}/control")
            os.close(here)
            connection.sendall(words)
        (root / "file").write_bytes(words)
    cli("commit", "one", "two")
    cli("umount", "one")
    assert not path.exists()


def test_a_read_only_mount(cli: Cli, root: Path) -> None:
    (root / "new").write_text("x")
    cli("umount", "one")
    cli("mount", "--read-only", "one")
    cli("commit", "one", "two")
    assert (layer_of(cli, "two") / "new").read_text() == "x"


def test_one_that_runs(cli: Cli, root: Path) -> None:
    """``run`` mounts for itself, if need be in a namespace of its own."""
    cli("umount", "one")
    words = "echo x > /ran; echo go; cat"
    process = cli.start("run", "one", "sh", "-c", words, stdin=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        cli("commit", "one", "two")
        assert (layer_of(cli, "two") / "ran").read_text() == "x\n"
        assert process.poll() is None
    finally:
        process.communicate()


def test_a_frozen_mount_can_be_told_to_leave(cli: Cli, root: Path) -> None:
    """Whoever froze it may have been forgotten: SIGTERM ends it as any other mount."""
    (daemon,) = cli.daemons("one")
    with frozen(os.fsencode(cli.container("one") / "control")):
        clients = [
            threading.Thread(target=_try_to_write, args=(root / f"file{number}",), daemon=True)
            for number in range(80)
        ]
        for client in clients:
            client.start()
        time.sleep(0.2)
        assert all(client.is_alive() for client in clients)
        os.kill(daemon, signal.SIGTERM)
        for client in clients:
            client.join(20)
        assert not any(client.is_alive() for client in clients)
    assert wait_gone(daemon)


def test_only_one_freezes_at_a_time(cli: Cli, root: Path) -> None:
    control = os.fsencode(cli.container("one") / "control")
    with frozen(control) as mount:
        with pytest.raises(FrozenError), frozen(control, 0.3):
            pass
        writer = threading.Thread(target=_try_to_write, args=(root / "file",))
        writer.start()
        writer.join(0.3)
        assert writer.is_alive()
        mount.thaw()
        writer.join(20)
        assert not writer.is_alive()
        assert (root / "file").read_text() == "x"


def _try_to_write(path: Path) -> None:
    try:
        path.write_text("x")
    except OSError:
        pass  # the mount is gone
