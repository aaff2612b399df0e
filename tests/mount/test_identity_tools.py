"""Tools that tell files by number, time and link count see no change after a remount.

Each notes what it sees in a mount where some files are lower ones, some were copied up, and some
were made there, and is asked again in the next mount of the same directories.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.files import ino, write
from tests.support.git import git
from tests.support.stacks import Dir, File, Layer, Layers, Link, Symlink, build_stack

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root]


def _tree(at: bytes) -> Layer:
    files = [File(at + b"/dir%d/file%d" % (n % 7, n), b"%d " % n, 100 + n * 50) for n in range(60)]
    links = [Link(at + b"/linked/%d" % n, at + b"/dir%d/file%d" % (n % 7, n)) for n in range(20)]
    return (
        *files,
        *links,
        Symlink(at + b"/symlink", b"dir0/file0"),
        Dir(at + b"/empty"),
        File(at + b"/sparse", b"end", 3, hole=3_000_000),
    )


@pytest.fixture
def layers(scratch) -> Layers:
    return build_stack(
        scratch + b"/s", [_tree(b"t"), [File(b"t/dir1/upper", b"2"), File(b"t/own/x", b"2")]]
    )


def _change(t: bytes) -> None:
    """Copy up, make, link, move, remove: a bit of each."""
    for n in range(0, 60, 5):
        path = t + b"/dir%d/file%d" % (n % 7, n)
        os.chmod(path, 0o600)
        write(path, b"changed")
    write(t + b"/linked/3", b"through a link")
    os.link(t + b"/dir1/file8", t + b"/linked/new")
    os.rename(t + b"/dir2", t + b"/own/dir2")
    os.rename(t + b"/dir3/file3", t + b"/dir4/file3")
    os.unlink(t + b"/linked/4")
    os.mkdir(t + b"/made")
    for n in range(5):
        write(t + b"/made/%d" % n, b"made %d" % n)
        os.link(t + b"/made/%d" % n, t + b"/made/%d-again" % n)
    os.unlink(t + b"/made/0")


def _run(words: list[bytes | str], cwd: bytes) -> bytes:
    env = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(words, cwd=cwd, env=env, capture_output=True)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout + done.stderr


@pytest.fixture(params=["extension", "pure"])
def mounts(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, union, layers
) -> Iterator[bytes]:
    """The tree in one mount after another: changed in the first, left alone since."""
    if request.param == "pure":
        monkeypatch.setenv("UNIONFS_PURE", "1")

    def one_after_another() -> Iterator[bytes]:
        while True:
            mounted = union(layers)
            yield mounted.root + b"/t"
            mounted.unmount()

    return one_after_another()


def test_what_programs_print(mounts):
    """Everything that stat(1) and du(1) know, of every file, and ``find -inum`` for each."""
    t = next(mounts)
    _change(t)
    everything = ["find", ".", "-printf", r"%P %i %n %m %U %G %s %b %T@ %C@ %y %l\n"]
    questions = [
        everything,
        ["ls", "-liR"],
        ["du", "-al"],  # with -l, since which name of a file comes first is nobody's promise
        ["du", "-s"],
        ["du", "-s", "--inodes"],
        ["du", "-s", "--apparent-size"],
    ]
    before = [_run(words, t) for words in questions]
    number = ino(t + b"/linked/3")
    same_file = sorted(_run(["find", ".", "-inum", str(number)], t).split())
    assert same_file == [b"./dir4/file3", b"./linked/3"]
    t = next(mounts)
    assert sorted(_run(["find", ".", "-inum", str(number)], t).split()) == same_file
    t = next(mounts)
    for words, lines in zip(questions, before, strict=True):
        assert set(_run(words, t).split(b"\n")) ^ set(lines.split(b"\n")) == set(), words


def test_tar_incremental(mounts, scratch):
    snar = scratch + b"/snar"
    words = ["tar", "--listed-incremental", snar, "--no-check-device", "-vcf", "/dev/null", "."]
    t = next(mounts)
    _change(t)
    assert b"./made/1\n" in _run(words, t)
    for _ in range(2):
        seen = _run(words, next(mounts)).splitlines()
        assert [line for line in seen if not line.endswith(b"/")] == []


def test_rsync(mounts, scratch):
    words = ["rsync", "-aHAXS", "--delete", "--itemize-changes", "./", scratch + b"/copy"]
    t = next(mounts)
    _change(t)
    assert b"made/1" in _run(words, t)
    assert _run([*words, "-n"], t) == b""
    for how in ("-n", "-nc"):
        assert _run([*words, how], next(mounts)) == b""


def test_git(mounts):
    """``diff-files`` compares what stat says with the index and never looks into a file."""
    t = next(mounts)
    git(t, "init", "-q")
    git(t, "add", ".")
    git(t, "commit", "-qm", "one")
    _change(t)
    git(t, "add", "-A")
    for _ in range(2):
        assert git(t, "diff-files") == b""
        assert b"M  dir" in git(t, "status", "--porcelain")
        t = next(mounts)
    git(t, "commit", "-qm", "two")
    t = next(mounts)
    assert git(t, "status", "--porcelain") == b""


def test_git_of_a_repository_in_a_lower_layer(union, layers):
    """The index was written on the plain directory: numbers and times are those of the layer."""
    repository = layers.lowers[-1] + b"/t"
    git(repository, "init", "-q")
    git(repository, "add", ".")
    shown = union(Layers((layers.lowers[-1],), layers.upper, layers.work)).root + b"/t"
    assert git(shown, "diff-files") == b""
