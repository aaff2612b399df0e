"""Who a container's process is, and that the question never leaves the image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from unionfs.container.passwd import BadUserError, NoSuchUserError, User, resolve_user
from unionfs.container.rootfile import RootFileError, open_root, read_small, stat_inside
from unionfs.errors import UnionfsError

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
alice:x:1000:1001:Alice:/home/alice:/bin/sh
5:x:77:78:called five:/five:/bin/sh
broken
far:x:4294967296:0::/:/bin/sh
nohome:x:8:9:::/bin/sh
"""
GROUP = """\
root:x:0:root
alice:x:1001:
video:x:44:bob,alice
audio:x:29:alice
far:x:99999999999:alice
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    return tmp_path


@pytest.fixture
def root_fd(root: Path) -> Iterator[int]:
    fd = open_root(str(root))
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("wanted", "user"),
    [
        ("", User(0, 0, (0,), "/root")),
        ("root", User(0, 0, (0,), "/root")),
        ("0", User(0, 0, (0,), "/root")),
        ("alice", User(1000, 1001, (29, 44), "/home/alice")),
        ("1000", User(1000, 1001, (29, 44), "/home/alice")),
        ("alice:video", User(1000, 44, (), "/home/alice")),
        ("alice:7", User(1000, 7, (), "/home/alice")),
        ("4711", User(4711, 0, (), "/")),
        ("4711:4712", User(4711, 4712, (), "/")),
        (":video", User(0, 44, (), "/root")),
        ("5", User(77, 78, (), "/five")),  # a name before a number
        ("nohome", User(8, 9, (), "/")),
    ],
)
def test_it_means_what_it_means_to_docker(root_fd: int, wanted: str, user: User) -> None:
    assert resolve_user(root_fd, wanted) == user


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ("bob", NoSuchUserError, "no user 'bob'"),
        ("alice:nobody", NoSuchUserError, "no group 'nobody'"),
        ("broken", NoSuchUserError, "no user 'broken'"),
        ("4294967296", BadUserError, "not between 0 and"),
        ("-1", BadUserError, "not between 0 and"),
        ("0:2147483648", BadUserError, "group 2147483648"),
        ("far", BadUserError, "4294967296"),
        ("\u0661", BadUserError, "\u0661"),  # a digit to str.isdecimal, not to passwd(5)
    ],
)
def test_what_is_nobody(root_fd: int, wanted: str, error: type[UnionfsError], words: str) -> None:
    with pytest.raises(error, match=words):
        resolve_user(root_fd, wanted)


def test_an_image_without_passwd_has_root_and_numbers(tmp_path: Path) -> None:
    fd = open_root(str(tmp_path))
    assert resolve_user(fd, "") == User(0, 0, (), "/")
    assert resolve_user(fd, "12:13") == User(12, 13, (), "/")
    os.close(fd)


@pytest.mark.parametrize("link", ["/secret", "../../secret", "../../../../../../secret"])
def test_a_link_is_followed_inside_the_root_only(root: Path, root_fd: int, link: str) -> None:
    (root.parent / "secret").write_text("spy:x:1:1::/:\n")
    (root / "etc/passwd").unlink()
    (root / "etc/passwd").symlink_to(link)
    with pytest.raises(NoSuchUserError):
        resolve_user(root_fd, "spy")
    (root / "secret").write_text("alice:x:7:7::/:\n")
    assert resolve_user(root_fd, "alice").uid == 7


def test_a_directory_that_leads_out_leads_nowhere(root: Path, root_fd: int) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("spy:x:1:1::/:\n")
    (root / "etc").rename(root / "old")
    (root / "etc").symlink_to(outside)
    assert read_small(root_fd, b"etc/passwd") == b""


def test_a_fifo_does_not_hang(root: Path, root_fd: int) -> None:
    (root / "etc/passwd").unlink()
    os.mkfifo(root / "etc/passwd")
    with pytest.raises(RootFileError, match="etc/passwd is not a regular file"):
        resolve_user(root_fd, "alice")


def test_a_huge_file_is_refused(root: Path, root_fd: int) -> None:
    os.truncate(root / "etc/passwd", 9 << 20)
    with pytest.raises(RootFileError, match="larger than 8 MiB"):
        resolve_user(root_fd, "alice")


def test_bytes_that_are_no_utf8_and_odd_line_ends_are_just_bytes(root: Path, root_fd: int) -> None:
    (root / "etc/passwd").write_bytes(b"\xff\xfe:x:3:4::/h:\n\x0cspy:x:5:5::/:\x0bspy2:x:6:6::/:\n")
    assert resolve_user(root_fd, b"\xff\xfe".decode(errors="surrogateescape")).uid == 3
    with pytest.raises(NoSuchUserError):
        resolve_user(root_fd, "spy2")


def test_links_can_count_as_missing(root: Path, root_fd: int) -> None:
    (root / "link").symlink_to("etc/passwd")
    assert stat_inside(root_fd, b"link") is not None
    assert stat_inside(root_fd, b"link", links=False) is None
    assert stat_inside(root_fd, b"etc/passwd", links=False) is not None
    assert stat_inside(root_fd, b"no/such") is None
