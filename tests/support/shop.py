"""A store with something in it, to try commands on, one after another."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.support import points
from tests.support.images import Layout
from tests.support.points import Trap
from tests.support.ptrace import Call
from tests.support.runner import Done, Runner
from tests.support.tars import dir_, file, symlink, tar
from unionfs.store.store import Store


class Image(NamedTuple):
    """A layout to import, and the content of one file of each of its layers, topmost first."""

    source: Path
    files: tuple[tuple[str, bytes], ...]


def make_images(folder: Path) -> dict[str, Image]:
    """Make two images in *folder* that share their lowest layer."""
    noise = random.Random(7)
    shared = tar(dir_("./"), dir_("d/"), file("d/low", b"low"), symlink("link", "d/low"))
    made = {}
    for name, own in (("first", "first"), ("second", "d/second")):
        data = noise.randbytes(5000)
        folders = [dir_("./"), *([dir_("d/")] if "/" in own else [])]
        layout = Layout(folder / name)
        layout.index(layout.image([shared, tar(*folders, file(own, data))]))
        made[name] = Image(layout.path, ((own, data), ("d/low", b"low")))
    return made


class Shop:
    """A store at ``root`` with the image ``first`` and, made of it and written to, a container."""

    def __init__(self, folder: Path, runner: Runner, images: dict[str, Image]) -> None:
        self._folder, self._runner = folder, runner
        committed = Image(images["first"].source, (("made/file", b"made"), *images["first"].files))
        self.images = {**images, "committed": committed}
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
        act: Callable[[Call], None] | None = None,
        child: bool = False,
    ) -> tuple[Trap, Done]:
        """Run a command that meets *act* at its changing call *number* (or that of its child).

        It is killed there unless *act* says otherwise; with *number* None nothing happens to it,
        or *act* at every call.
        """
        if act is None:
            act = watch if number is None else points.kill
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
                for path, (inside, data) in zip(paths, self.images[name].files, strict=True):
                    assert Path(path, inside).read_bytes() == data
            for container in store.containers.list():
                home = Path(store.containers.path(container.id))
                assert {"upper", "work", "merged"} <= set(os.listdir(home))
                if container.name == "old":
                    assert (home / "upper/made/file").read_bytes() == b"made"


def watch(call: Call) -> None:
    """Let *call* be made."""


def import_second(shop: Shop) -> tuple[str, ...]:
    return ("image", "import", f"oci:{shop.images['second'].source}", "--name", "second")


def _nothing(shop: Shop) -> None:
    pass


class Verb(NamedTuple):
    """A command that changes a store; what it says when it was done before; what comes first."""

    words: Callable[[Shop], tuple[str, ...]]
    finished: str = "(never said)"
    given: Callable[[Shop], object] = _nothing

    def again(self, shop: Shop) -> None:
        """Run the command; it succeeds, or says that it did the first time."""
        done = shop.run(*self.words(shop))
        assert done.status == 0 or self.finished in done.said, done


STORE_VERBS = {
    "image import": Verb(import_second),
    "create": Verb(lambda shop: ("create", "first", "--name", "new"), "is taken"),
    "commit": Verb(lambda shop: ("commit", "old", "committed")),
    "rm": Verb(lambda shop: ("rm", "old"), "no such container"),
    "image rm": Verb(
        lambda shop: ("image", "rm", "second"),
        "no such image",
        lambda shop: shop.succeed(*import_second(shop)),
    ),
}
