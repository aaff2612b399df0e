"""Which requests are wanted: every kind of word, alone and together, and words that say nothing."""

from __future__ import annotations

import errno

import pytest

from tests.support.traced import asked, piece_of
from unionfs.inspect.event import Event
from unionfs.inspect.tracefilter import (
    BadFilterError,
    Filter,
    commands_of,
    duration_ns,
    errnos_of,
    operations_of,
    patterns_of,
)

OPEN = asked("open", "/etc/passwd", layer="2")
MISS = asked("lookup", "/etc/none", errno=errno.ENOENT, pid=8)
FULL = asked("write", "/var/log/all", errno=errno.ENOSPC, took_ns=2_000_000, command="logger")
MOVE = asked("rename2", "/tmp/a", other="/etc/a", layer="upper", took_ns=1_000_000)
EVERY = (OPEN, MISS, FULL, MOVE)
NEEDLESS = asked("flush", errno=errno.ENOSYS)


def admits(wanted: Filter, event: Event) -> bool:
    return bool(wanted.chosen(piece_of([event])).count)


def paths(*globs: str) -> Filter:
    return Filter(paths=patterns_of(globs))


@pytest.mark.parametrize(
    ("wanted", "admitted"),
    [
        (Filter(), EVERY),
        (Filter(operations=operations_of(["open,rename2", "lookup"])), (OPEN, MISS, MOVE)),
        (Filter(errnos=errnos_of(["ENOENT,EIO"])), (MISS,)),
        (Filter(errnos=errnos_of(["ENOENT", "any"])), (MISS, FULL)),
        (Filter(pids=frozenset({8, 9})), (MISS,)),
        (Filter(commands=commands_of(["logger", "cat"])), (FULL,)),
        (Filter(slower_than_ns=duration_ns("1ms")), (FULL,)),
        (Filter(slower_than_ns=duration_ns("0.9ms")), (FULL, MOVE)),
        (paths("/etc/*"), (OPEN, MISS, MOVE)),
        (paths("/var/*", "*/passwd"), (OPEN, FULL)),
        (paths("/etc"), ()),
        (paths("/???/[np]*"), (OPEN, MISS)),
        (Filter(paths=patterns_of(["/etc/*"]), errnos=errnos_of(["any"])), (MISS,)),
    ],
)
def test_what_is_admitted(wanted, admitted):
    assert tuple(wanted.chosen(piece_of(EVERY)).events()) == admitted


def test_what_the_kernel_need_not_ask_has_not_failed():
    assert not admits(Filter(errnos=errnos_of(["any"])), NEEDLESS)
    assert admits(Filter(errnos=errnos_of(["ENOSYS"])), NEEDLESS)
    assert admits(Filter(errnos=errnos_of(["any"])), asked("fallocate", errno=errno.ENOSYS))


def test_a_star_matches_slashes_newlines_and_bytes_that_are_no_text():
    event = asked("open", "/a/b\n/\udcff.x")
    assert admits(paths("/a*.x"), event) and not admits(paths("/a/b"), event)


def test_a_glob_is_about_the_whole_path():
    assert not admits(paths("/etc/pass"), OPEN) and not admits(paths("/e*/pass"), OPEN)


def test_a_programs_name_is_cut_as_the_kernel_cuts_it():
    assert commands_of(["a-program-of-long-name"]) == {"a-program-of-lo"}
    event = asked("open", command="é" * 7 + "\udcc3")
    assert admits(Filter(commands=commands_of(["é" * 9])), event)


@pytest.mark.parametrize(
    ("text", "ns"), [("200us", 200_000), ("1.5s", 1_500_000_000), (".5ms", 500_000), ("7ns", 7)]
)
def test_durations(text, ns):
    assert duration_ns(text) == ns


@pytest.mark.parametrize("text", ["", "5", "ms", "-1ms", "1m", "1 ms", "1e3us", "1..2s", "٣ms"])
def test_words_that_are_no_duration(text):
    with pytest.raises(BadFilterError, match="no duration such as"):
        duration_ns(text)


@pytest.mark.parametrize("text", ["look", "open,", "LOOKUP", "lookup,opne"])
def test_an_operation_that_is_not_there_names_those_that_are(text):
    with pytest.raises(BadFilterError, match=r"no operation is called '\w*'; .*getattr, .*rename2"):
        operations_of([text])


@pytest.mark.parametrize("text", ["2", "ENOWAY", "errorcode", "ENOENT,", "Any"])
def test_words_that_are_no_errors_name(text):
    with pytest.raises(BadFilterError, match="no error's name"):
        errnos_of([text])


@pytest.mark.parametrize("glob", ["etc/*", "", "./a"])
def test_a_glob_that_matches_no_path(glob):
    with pytest.raises(BadFilterError, match="matches no path"):
        patterns_of([glob])
