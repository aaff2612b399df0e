"""What requests read and changed, file by file, against written answers."""

from __future__ import annotations

import errno
import random

import pytest

from tests.support.traced import asked
from unionfs.inspect.reads import Ranges, Reads


def after(*events) -> Reads:
    reads = Reads()
    for event in events:
        reads.add(event)
    return reads


@pytest.mark.parametrize(
    ("pieces", "count"),
    [
        ([], 0),
        ([(0, 0), (5, 5)], 0),
        ([(0, 10), (10, 20), (20, 30)], 30),
        ([(20, 30), (0, 10)], 20),
        ([(0, 10), (5, 15), (0, 10)], 15),
        ([(0, 10), (20, 30), (40, 50), (5, 45)], 50),
        ([(0, 100), (10, 20)], 100),
        ([(10, 20), (0, 100)], 100),
        ([(0, 10), (20, 30), (10, 20)], 30),
    ],
)
def test_each_byte_once(pieces, count):
    ranges = Ranges()
    for start, end in pieces:
        ranges.add(start, end)
    assert ranges.bytes == count


def test_ranges_are_what_a_set_of_bytes_is():
    choose = random.Random(7)
    for _ in range(300):
        ranges, bytes_ = Ranges(), set()
        for _ in range(choose.randrange(12)):
            start = choose.randrange(60)
            end = start + choose.randrange(12)
            ranges.add(start, end)
            bytes_.update(range(start, end))
        assert ranges.bytes == len(bytes_)


def test_what_was_read_once_and_in_all():
    reads = after(
        asked("lookup", "/f", layer="1"),
        asked("open", "/f", layer="1"),
        asked("read", "/f", layer="1", size=4096),
        asked("read", "/f", layer="1", size=4096, offset=4096),
        asked("read", "/f", layer="1", size=4096, offset=2048),
        asked("read", "/f", layer="1", size=0, offset=8192),
        asked("getattr", "/d", layer="2"),
    )
    one, other = reads.used["1", b"/f"], reads.used["2", b"/d"]
    assert (one.opens, one.reads, one.ranges.bytes, one.in_all) == (1, 4, 8192, 12288)
    assert one.was_read and not other.was_read
    assert reads.count == 7 and not reads.changed


def test_an_open_that_the_kernel_need_not_ask_for_is_one():
    reads = after(asked("open", "/f", layer="1", errno=errno.ENOSYS))
    assert reads.used["1", b"/f"].opens == 1


def test_a_link_that_is_followed_is_read_without_bytes():
    reads = after(asked("readlink", "/l", layer="1", size=7))
    assert reads.used["1", b"/l"].was_read and reads.used["1", b"/l"].in_all == 0


def test_failures_and_requests_about_no_file_show_nothing():
    reads = after(
        asked("lookup", "/none", errno=errno.ENOENT),
        asked("open", "/f", layer="1", errno=errno.EACCES),
        asked("unlink", "/f", errno=errno.EPERM),
        asked("statfs", "", layer="1"),
        asked("getattr", "/gone"),
    )
    assert (reads.count, reads.used, reads.changed) == (5, {}, {})


def test_a_copied_file_is_two_and_says_where_it_was():
    reads = after(
        asked("lookup", "/f", layer="3"),
        asked("write", "/f", layer="upper", size=10),
        asked("write", "/f", layer="upper", size=5, offset=10),
        asked("read", "/f", layer="upper", size=15),
        asked("setattr", "/f", layer="upper"),
    )
    assert set(reads.used) == {("3", b"/f"), ("upper", b"/f")}
    assert not reads.used["3", b"/f"].was_read and reads.used["upper", b"/f"].in_all == 15
    one = reads.changed[b"/f"]
    assert (list(one.acts), one.wrote, one.layer) == (["written", "attributes"], 15, "3")


def test_names_that_come_and_go():
    reads = after(
        asked("lookup", "/old", layer="1"),
        asked("create", "/new", layer="upper"),
        asked("rename2", "/old", other="/moved\udcff", layer="upper"),
        asked("link", "/new", other="/second", layer="upper"),
        asked("unlink", "/new"),
        asked("mkdir", "/d", layer="upper"),
    )
    found = {one.path: (list(one.acts), one.layer, one.other) for one in reads.changed.values()}
    assert found == {
        b"/new": (["created", "linked", "removed"], "", b"/second"),
        b"/old": (["renamed"], "1", b"/moved\xff"),
        b"/d": (["created"], "", b""),
    }
