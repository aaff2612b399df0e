"""Every command that changes a store, killed with SIGKILL at each call that changes anything.

The database's own calls are among them. Whatever the call: what was there is whole, what was to
come is there whole or not at all, and the same command run again ends what was begun, with nothing
cleaned up by hand.
"""

from __future__ import annotations

import errno
import os
import random
import select
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support import kernel, points, trees
from tests.support.examples import FULL, TIMEOUT
from tests.support.images import Layout
from tests.support.points import Trap
from tests.support.ptrace import Call
from tests.support.runner import Done, Runner
from tests.support.tars import dir_, file, symlink, tar
from unionfs.store.store import Store

pytestmark = [
    pytest.mark.needs_fuse,
    pytest.mark.needs_root,
    pytest.mark.timeout(TIMEOUT),
]

POINTS = 100_000 if FULL else 8  # at most so many of a command's calls are tried
SETTLED = 20.0  # seconds for a daemon to tell or to leave


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.close()


class Image(NamedTuple):
    source: Path
    layers: int


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    """Two images that share their lowest layer."""
    noise = random.Random(7)
    shared = tar(dir_("./"), dir_("d/"), file("d/low", b"low"), symlink("link", "d/low"))
    tars = {
        "first": [shared, tar(dir_("./"), file("first", noise.randbytes(5000)))],
        "second": [shared, tar(dir_("./"), dir_("d/"), file("d/second", noise.randbytes(5000)))],
    }
    made = {}
    for name, layers in tars.items():
        layout = Layout(tmp_path_factory.mktemp("images") / name)
        layout.index(layout.image(layers))
        made[name] = Image(layout.path, len(layers))
    return made


class Shop:
    """A store at ``root`` with the image ``first`` and, made of it and written to, a container."""

    def __init__(self, folder: Path, runner: Runner, images: dict[str, Image]) -> None:
        self._folder, self._runner, self.images = folder, runner, images
        self.root = folder / "store"
        self._original = folder / "original"
        self._out = str(folder / "out")
        self.succeed("image", "import", f"oci:{images['first'].source}", "--name", "first")
        self.succeed("create", "first", "--name", "old")
        upper = self.container("old") / "upper"
        (upper / "made").mkdir()
        (upper / "made" / "file").write_bytes(b"made")
        os.mknod(upper / "first", 0o020000, 0)
        os.rename(self.root, self._original)

    def fresh(self) -> None:
        """Begin anew."""
        subprocess.run(["rm", "-rf", "--", self.root], check=True)
        subprocess.run(["cp", "-a", "--", self._original, self.root], check=True)

    def run(self, *words: str) -> Done:
        return self._runner.run("--root", str(self.root), *words, out=self._out)

    def succeed(self, *words: str) -> str:
        done = self.run(*words)
        assert done.status == 0, (words, done)
        return done.said

    def tried(
        self,
        number: int | None,
        *words: str,
        act: Callable[[Call], None] = points.kill,
        child: bool = False,
    ) -> tuple[Trap, Done]:
        """Run a command that meets *act* at its changing call *number* (or that of its child)."""
        if number is None:
            act = _watch
        open(self._out, "wb").close()
        pid = self._runner.start("--root", str(self.root), *words, out=self._out)
        with Trap(pid, number, act, child=child) as trap:
            self._runner.go(pid)
            status = self._runner.wait(pid)
        with open(self._out, errors="replace") as out:
            return trap, Done(status, out.read())

    def container(self, name: str) -> Path:
        with Store.open(str(self.root)) as store:
            return Path(store.containers.path(store.containers.resolve(name).id))

    def images_and_containers(self) -> tuple[set[str], set[str]]:
        with Store.open(str(self.root)) as store:
            names = {name for image in store.images.list() for name in image.names}
            return names, {container.name for container in store.containers.list()}

    def collect(self) -> None:
        """Do what the next import does first."""
        with Store.open(str(self.root)) as store, store.lease():
            pass

    def content(self) -> list[str]:
        """Return what is in the store but its database; containers' IDs left out."""
        found = []
        for path in sorted(self.root.rglob("*")):
            words = path.relative_to(self.root).parts
            if words[0].startswith("store.db"):
                continue
            if words[0] == "containers" and len(words) > 1:
                words = (words[0], "ID", *words[2:])
            found.append("/".join(words))
        return sorted(found)

    def intact(self) -> None:
        """Check that all that the store lists is there, whole."""
        with Store.open(str(self.root)) as store:
            for image in store.images.list():
                (name,) = (word.rpartition("/")[2].partition(":")[0] for word in image.names)
                paths = store.images.stack(image.id)
                assert len(paths) == self.images[name].layers
                assert os.path.getsize(f"{paths[-1]}/d/low") == 3
                own = f"{paths[0]}/first" if name == "first" else f"{paths[0]}/d/second"
                assert os.path.getsize(own) == 5000
            for container in store.containers.list():
                home = Path(store.containers.path(container.id))
                assert {"upper", "work", "merged"} <= set(os.listdir(home))
                if container.name == "old":
                    assert (home / "upper/made/file").read_bytes() == b"made"


@pytest.fixture
def shop(tmp_path: Path, runner: Runner, images: dict[str, Image]) -> Shop:
    return Shop(tmp_path, runner, images)


def _watch(call: Call) -> None:
    """Let *call* be made."""


def _tried(count: int) -> range:
    """Return the numbers of the calls to try, of *count*: all, or some from the whole length."""
    assert count > 2, "a command that changes something makes calls"
    step = max(1, count // POINTS)
    return range(count % step, count, step)


def _again(done: Done, *finished: str) -> None:
    """Check that a command run again succeeded, or says that it was done the first time."""
    assert done.status == 0 or any(word in done.said for word in finished), done


def _import(shop: Shop) -> tuple[str, ...]:
    return ("image", "import", f"oci:{shop.images['second'].source}", "--name", "second")


STORE_VERBS: dict[str, tuple[Callable[[Shop], tuple[str, ...]], tuple[str, ...]]] = {
    "image import": (_import, ()),
    "create": (lambda shop: ("create", "first", "--name", "new"), ("is taken",)),
    "rm": (lambda shop: ("rm", "old"), ("no such container",)),
    "image rm": (lambda shop: ("image", "rm", "second"), ("no such image",)),
}


ERRORS = (errno.ENOSPC, errno.EIO, errno.EDQUOT)
ENDS: dict[str, Callable[[int], Callable[[Call], None]]] = {
    "killed": lambda number: points.kill,
    "failing": lambda number: points.failing(ERRORS[number % len(ERRORS)]),
}


def _ended_rightly(done: Done, how: str) -> bool:
    """Return whether a command was killed, or said in one line what failed (or knew a way)."""
    if how == "killed":
        return done.status == -9
    lines = done.said.splitlines()
    told = (
        len(lines) == 1 and lines[0].startswith("unionfs: error: ") and "internal" not in lines[0]
    )
    return done.status == 0 or (done.status == 1 and told)


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("verb", STORE_VERBS)
def test_ended_at_every_step(shop: Shop, verb: str, how: str):
    words_of, finished = STORE_VERBS[verb]
    act = ENDS[how]
    words = words_of(shop)

    def begin() -> tuple[set[str], set[str]]:
        shop.fresh()
        if verb == "image rm":
            shop.succeed(*_import(shop))
        return shop.images_and_containers()

    before = begin()
    count = shop.tried(None, *words)[0].count
    shop.collect()
    after, content = shop.images_and_containers(), shop.content()
    assert before != after
    for number in _tried(count):
        assert begin() == before
        trap, done = shop.tried(number, *words, act=act(number))
        assert trap.sprung is None or _ended_rightly(done, how), f"{trap}: {done}"
        there = shop.images_and_containers()
        assert there in (before, after), f"{trap}: {there}"
        assert done.status or there == after, f"{trap}: {done}"
        shop.intact()
        _again(shop.run(*words), *finished)
        shop.intact()
        assert shop.images_and_containers() == after, f"{trap}"
        shop.collect()
        assert shop.content() == content, f"{trap}: something was left, or taken"


def test_making_a_store_killed_at_every_step(shop: Shop):
    def empty() -> None:
        subprocess.run(["rm", "-rf", "--", shop.root], check=True)

    empty()
    count = shop.tried(None, *_import(shop))[0].count
    shop.collect()
    content = shop.content()
    for number in _tried(count):
        empty()
        trap, _ = shop.tried(number, *_import(shop))
        shop.succeed(*_import(shop))
        shop.intact()
        shop.collect()
        assert shop.content() == content, f"{trap}: something was left, or taken"


def _settled(pid: int) -> None:
    """Wait until the daemon *pid* has told its starter of the mount, or is gone."""
    end = time.monotonic() + SETTLED
    while time.monotonic() < end:
        try:
            if b"pipe:" not in os.readlink(b"/proc/%d/fd/3" % pid):
                return
        except OSError:
            return  # closed, or the process is gone
        time.sleep(0.002)
    raise AssertionError("the daemon neither tells nor leaves")


def _gone(pid: int) -> None:
    """Wait until the process *pid*, nobody's child that we know, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], SETTLED)[0], "the daemon does not leave"
    finally:
        os.close(fd)


@pytest.mark.parametrize("whose", ["command", "daemon"])
def test_mount_killed_at_every_step(shop: Shop, whose: str):
    child = whose == "daemon"
    shop.fresh()
    count = shop.tried(None, "mount", "old", child=child)[0].count
    merged = shop.container("old") / "merged"
    expected = trees.snapshot(os.fsencode(merged))
    shop.succeed("umount", "old")
    for number in _tried(count):
        shop.fresh()
        merged = shop.container("old") / "merged"
        trap, done = shop.tried(number, "mount", "old", child=child)
        if trap.child >= 0:
            (_gone if child and trap.sprung else _settled)(trap.child)
        assert done.status == (1 if child else -9) or trap.sprung is None, f"{trap}: {done}"
        shop.intact()
        _again(shop.run("mount", "old"), "already mounted")
        trees.assert_same(expected, trees.snapshot(os.fsencode(merged)), ("before", str(trap)))
        shop.succeed("umount", "old")
        assert kernel.mounted_at(os.fsencode(merged)) is None
        assert os.listdir(merged) == []


@pytest.mark.parametrize("whose", ["command", "daemon"])
def test_umount_killed_at_every_step(shop: Shop, whose: str):
    number: int | None = None
    tried: Iterator[int] = iter(())
    while True:
        shop.fresh()
        daemon = shop.tried(None, "mount", "old", child=True)[0].child
        merged = os.fsencode(shop.container("old") / "merged")
        os.unlink(merged + b"/d/low")
        expected = trees.snapshot(merged)
        if whose == "command":
            trap, _ = shop.tried(number, "umount", "old")
        else:
            with Trap(daemon, number, _watch if number is None else points.kill) as trap:
                shop.succeed("umount", "old")
                _gone(daemon)
        if number is None:
            tried = iter(_tried(trap.count))
        _again(shop.run("umount", "old"), "is not mounted")
        _gone(daemon)
        assert kernel.mounted_at(merged) is None
        shop.succeed("mount", "old")
        trees.assert_same(expected, trees.snapshot(merged), ("before", str(trap)))
        shop.succeed("umount", "old")
        number = next(tried, None)
        if number is None:
            return
