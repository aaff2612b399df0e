"""What ``explain`` says is what our own mount shows: of a real image, and of random stacks."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings

from tests.support.command import Cli
from tests.support.examples import COUNT, common_settings
from tests.support.explaining import assert_agrees, every_path, plain_source
from tests.support.images import have, umoci_image
from tests.support.ops import OPERATIONS, World, perform
from tests.support.picks import resolve
from tests.support.removals import removed
from tests.support.stacks import build_stack
from tests.support.strategies import operations, stacks
from tests.support.tinyroot import make_root
from unionfs.container.subject import find_source
from unionfs.inspect.explain import Explanation, Outcome, explain_in
from unionfs.inspect.stack import Source, Stack
from unionfs.store.store import Store

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]
needs_umoci = pytest.mark.skipif(have("umoci") is not None, reason=str(have("umoci")))
_number = itertools.count()
_LIBRARY = (
    "asyncio",
    "ctypes",
    "email",
    "encodings",
    "http",
    "importlib",
    "json",
    "unittest",
    "xml",
)
_SHELL = (
    "rm -rf /usr/lib/py/encodings; mkdir -p /usr/lib/py/encodings; "
    "echo new > /usr/lib/py/encodings/utf_8.py; rm /usr/lib/py/json/decoder.py; "
    "mkdir /opt; mv /usr/lib/py/email /opt",
    "rm -rf /usr/lib/py/json; echo a file > /usr/lib/py/json; rm -rf /opt/email/mime; "
    "rm /usr/lib/py/importlib/abc.py; mkdir /usr/lib/py/importlib/abc.py",
    "rm /usr/lib/py/json; mkdir /usr/lib/py/json; echo again > /usr/lib/py/json/decoder.py",
)


def _base(root: Path) -> None:
    """A shell, and some hundred files of this machine's Python."""
    make_root(str(root))
    library = Path(os.__file__).parent
    for name in _LIBRARY:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(library / name, root / "usr/lib/py" / name, ignore=ignore)
    (root / "usr/lib/current").symlink_to("py/encodings")


def _runs(script: str):
    """A build step: *script*, by the image's own shell in the image's own root."""
    return lambda root: subprocess.run(["chroot", root, "/bin/sh", "-ec", script], check=True)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Cli, Path]]:
    """A store with the image ``real``, and the layout that it came from."""
    layout = umoci_image(tmp_path_factory.mktemp("image"), _base, *map(_runs, _SHELL))
    cli = Cli(tmp_path_factory.mktemp("explained") / "store")
    cli("image", "import", f"oci:{layout}:made", "--name", "real")
    yield cli, layout
    cli.tidy()


def _every(source: Source, root: Path) -> set[bytes]:
    return every_path(*(layer.path for layer in source.layers), bytes(root))


def _found(cli: Cli, subject: Path) -> Source:
    with Store.open(str(cli.root)) as store:
        return find_source(store, str(subject))


@needs_umoci
def test_every_path_of_a_real_image_and_every_one_that_it_removed(image, tmp_path: Path) -> None:
    cli, layout = image
    gone = removed(layout, "made")
    assert len(gone) > 100
    cli("mount", "--image", "real", str(tmp_path))
    try:
        source = _found(cli, tmp_path)
        paths = _every(source, tmp_path) | gone.keys()
        said = {one.asked: one for one in assert_agrees(source, bytes(tmp_path), paths)}
    finally:
        cli("umount", str(tmp_path))
    assert sum(one.outcome is Outcome.FOUND for one in said.values()) > 150
    for path, number in gone.items():
        one = said[path]
        assert one.outcome in (Outcome.HIDDEN, Outcome.NOT_A_DIRECTORY), (path, one)
        assert one.copies and one.blame is not None, (path, one)
        assert one.blame.layer.number == number, (path, one)


@needs_umoci
def test_every_path_of_a_container_that_was_worked_in(image, tmp_path: Path) -> None:
    """While it is mounted, and the same afterwards, from what is on the disk."""
    cli, layout = image
    cli("create", "real", "--name", "web")
    cli("mount", "web", str(tmp_path))
    _work_in(tmp_path)
    source = _found(cli, tmp_path)
    paths = _every(source, tmp_path) | removed(layout, "made").keys()
    mounted = assert_agrees(source, bytes(tmp_path), paths)
    by_path = {one.asked: one for one in mounted}
    assert by_path[b"/usr/lib/py/asyncio/tasks.py"].blame.layer.label == "upper"
    assert by_path[b"/srv/moved/machinery.py"].shown.layer.number == 1
    cli("umount", "web")
    with Store.open(str(cli.root)) as store:
        _say_the_same(find_source(store, "web"), mounted)


def _work_in(root: Path) -> None:
    """Remove, move, change and make what a container's programs would."""
    py = root / "usr/lib/py"
    shutil.rmtree(py / "asyncio")
    (root / "srv").mkdir()
    (py / "importlib").rename(root / "srv/moved")
    (root / "srv/moved/util.py").rename(root / "srv/util")
    (root / "etc/passwd").write_text("changed\n")
    (py / "json/decoder.py").unlink()
    shutil.rmtree(root / "opt/email")
    (root / "opt/email").mkdir()
    (root / "usr/lib/current").unlink()
    (root / "usr/lib/current").symlink_to("../../srv")


def _say_the_same(source: Source, said: Sequence[Explanation]) -> None:
    with Stack(source) as stack:
        for one in said:
            again = explain_in(stack, one.asked)
            assert replace(again, subject=one.subject) == one


@settings(common_settings, max_examples=max(COUNT // 4, 10))
@given(stack=stacks(links=True), ops=operations("everything", length=12))
def test_random_stacks_and_what_was_done_in_them(arena, mount_union, stack, ops):
    folder = arena + b"/f%d" % next(_number)
    layers = build_stack(folder, stack)
    assert layers.upper is not None
    with mount_union(layers, folder + b"/merged") as mounted:
        world = World("union", mounted.root)
        try:
            for op in ops:
                if op.name in OPERATIONS:
                    perform(world, resolve(op, world))
        finally:
            world.close_all()
        paths = every_path(*layers.lowers, layers.upper, mounted.root) | {b"/no/such"}
        assert_agrees(plain_source(layers), mounted.root, paths)
    subprocess.run(["rm", "-rf", "--", folder], check=True)
