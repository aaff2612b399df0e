"""What a daemon tells its starter comes back as the same branch of error and the same words."""

import errno
import os

import pytest

from unionfs import errors
from unionfs.daemon import report


class LeafError(errors.ConflictError):
    pass


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (LeafError("in use"), errors.ConflictError, "in use"),
        (errors.UsageError("wörds \udcff"), errors.UsageError, "wörds \udcff"),
        (
            FileNotFoundError(errno.ENOENT, "No such file or directory", b"/l\xff"),
            errors.UnionfsError,
            "/l\udcff: No such file or directory",
        ),
        (ValueError("odd"), errors.UnionfsError, "internal error: ValueError: odd"),
    ],
)
def test_errors_come_back(error, kind, text):
    found = report.unpack(report.pack(error))
    assert type(found) is kind and str(found) == text


def test_what_others_said_stands_behind():
    assert str(report.unpack(report.pack(LeafError("no"), beside="why"))) == "no: why"


def test_the_longest_message_is_one_atomic_write():
    reading, writing = os.pipe()
    report.send(writing, report.pack(LeafError("x" * 100_000)))
    message = report.receive(reading)
    os.close(reading)
    assert len(message) == 4096 and type(report.unpack(message)) is errors.ConflictError


def test_a_dead_sender_says_nothing():
    reading, writing = os.pipe()
    os.close(writing)
    assert report.receive(reading) == b""
    os.close(reading)


def test_nobody_listens():
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        report.send(writing, report.READY)
