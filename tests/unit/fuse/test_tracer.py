"""What is kept for those who trace, and how it goes to them, with records that are made up."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.files import refused
from tests.support.stacks import Dir, File, build_stack
from tests.support.traced import decoded
from unionfs.fuse import loop, native, tracer, tracereader
from unionfs.fuse.inodes import Inodes
from unionfs.fuse.tracer import Tracer
from unionfs.inspect.event import Event
from unionfs.inspect.piece import FormError
from unionfs.inspect.records import END, RECORD, REPLY, REST_AT
from unionfs.ondisk.flavour import Flavour
from unionfs.options import MountConfig
from unionfs.union.layer import FdPool, Layer
from unionfs.union.stack import open_layers, tree_of

LOOKUP, READ, RENAME2 = 1, 15, 45


class Made:
    """A source whose records are made by the test."""

    def __init__(self) -> None:
        self.pids: bytes | None = None
        self.made: list[bytes] = []
        self.names = b""
        self.names_taken = 0xFFFFFFF0  # all but used up
        self.lost = self.requests = 0

    def trace_for(self, pids: bytes) -> None:
        self.pids = pids

    def trace_waiting(self) -> int:
        return len(self.made)

    def trace_mentions(self, node: int) -> bool:
        return any(node in RECORD.unpack(record)[2:5] for record in self.made)

    def trace_take(self) -> tuple[bytes, bytes, int]:
        found = b"".join(self.made), self.names, self.lost
        self.names_taken += len(self.names)
        self.made, self.names, self.lost = [], b"", 0
        return found

    def add(
        self, opcode: int, node: int, first: bytes = b"", *, second: int = 0, other: bytes = b"",
        shown: int = 0, size: int = 0, error: int = 0,
    ) -> None:  # fmt: skip
        self.requests += 1
        self.made.append(
            RECORD.pack(
                1000, 10, node, second, shown, size, 7, self._names_at(), 42, error,
                opcode, 1, len(first), len(other), b"cat",
            )
        )  # fmt: skip
        self.names += first + other

    def _names_at(self) -> int:
        return (self.names_taken + len(self.names)) % 2**32


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return 0

    def time_ns(self) -> int:
        return 5000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(tracer, "time", clock := Clock())
    monkeypatch.setattr(tracereader, "time", clock)
    return clock


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    monkeypatch.setattr(native, "hooks", source := Made())
    yield source
    loop.at_turns(None)


@pytest.fixture
def inodes(tmp_path: Path) -> Iterator[Inodes]:
    made = build_stack(
        os.fsencode(tmp_path / "s"),
        [[File(b"a", size=3), Dir(b"d")], [File(b"b")]],
        writable=False,
    )
    layers: list[Layer] = []
    pool = FdPool(100)
    open_layers(layers, None, made.lowers, Flavour.TRUSTED, pool, aufs=False)
    tree = tree_of(layers, pool)
    yield Inodes(tree, None)
    tree.close()


@pytest.fixture
def one(inodes: Inodes, source: Made, clock: Clock) -> Tracer:
    config = MountConfig((b"/top", b"/bottom"))
    return Tracer(inodes, config, lambda: source.requests)


def number_of(inodes: Inodes, path: bytes) -> int:
    node = inodes.tree.root
    for name in path.split(b"/"):
        parent, node = node, inodes.tree.load(node)[name]
        node = inodes.enter(parent, name, node)
    inodes.shown(node)
    return node.ino


def test_records_become_events(one: Tracer, source: Made, inodes: Inodes) -> None:
    assert decoded(one.answer(b"r", 0, 77)) == ([], 0, False)
    assert source.pids == (77).to_bytes(4, "little")
    a, d = number_of(inodes, b"a"), number_of(inodes, b"d")
    source.add(READ, a, shown=a, size=3)
    source.add(LOOKUP, d, b"absent", error=errno.ENOENT)
    source.add(RENAME2, 1, b"a", second=d, other=b"\xff")
    source.add(63, 12345)
    events, lost, more = decoded(one.answer(b"r", 1, 77))
    common = {"start_ns": 6000, "took_ns": 10, "pid": 42, "command": "cat", "offset": 7}
    assert (lost, more) == (0, False)
    assert events == [
        Event(operation="read", path="/a", layer="1", size=3, extension=True, **common),
        Event(operation="lookup", path="/d/absent", errno=2, extension=True, **common),
        Event(
            operation="rename2", path="/a", other="/d/\udcff", layer="upper", extension=True,
            **common,
        ),
        Event(operation="opcode_63", path="", extension=True, **common),
    ]  # fmt: skip
    one.end(b"r")
    assert source.pids == b""


def test_what_is_told_is_what_it_was_called_then(one: Tracer, source: Made, inodes: Inodes) -> None:
    one.answer(b"r", 0, 77)
    a = number_of(inodes, b"a")
    source.add(READ, a, shown=a)
    one.settle()
    node = inodes[a]
    node.name = b"moved"
    source.add(READ, a, shown=a)
    assert [event.path for event in decoded(one.answer(b"r", 1, 77))[0]] == ["/a", "/moved"]


def test_before_a_node_is_forgotten_it_is_told_of(
    one: Tracer, source: Made, inodes: Inodes
) -> None:
    one.answer(b"r", 0, 77)
    a, b = number_of(inodes, b"a"), number_of(inodes, b"b")
    source.add(READ, a, shown=a)
    one.forget([(b, 1)])
    assert source.trace_waiting() == 1  # none is about it
    one.forget([(b, 1), (a, 1)])
    assert source.trace_waiting() == 0
    inodes[a].name = b"another"
    source.add(READ, a, shown=a)
    one.forget([(b, 1)] * 9)  # too many to look for each
    assert source.trace_waiting() == 0
    assert [event.path for event in decoded(one.answer(b"r", 1, 77))[0]] == ["/a", "/another"]


def test_long_paths_and_many_records_come_in_replies_that_fit(
    one: Tracer, source: Made, inodes: Inodes
) -> None:
    one.answer(b"r", 0, 77)
    number = number_of(inodes, b"d")
    inodes[number].name = b"d" * 6000  # as long as a path of many names
    for count in range(2000):
        source.add(LOOKUP, number, b"%0255d" % count)
    found: list[Event] = []
    asked, more = 0, True
    while more:
        asked += 1
        reply = one.answer(b"r", asked, 77)
        assert len(reply) <= 65536
        events, lost, more = decoded(reply)
        assert lost == 0
        found += events
    assert asked > 8
    assert [int(event.path[-255:]) for event in found] == list(range(2000))
    assert found[0].path.startswith("/...d") and len(found[0].path) == 4 + 4096 + 1 + 255


def test_what_is_too_much_is_lost_for_who_does_not_ask(
    one: Tracer, source: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracereader, "_KEPT", 50_000)
    one.answer(b"slow", 0, 77)
    one.answer(b"quick", 0, 78)
    for number in range(1, 11):
        for _ in range(100):
            source.add(LOOKUP, 1, b"name")
        events, lost, _ = decoded(one.answer(b"quick", number, 78))
        assert (len(events), lost) == (100, 0)
    source.lost = 3
    events, lost, more = decoded(one.answer(b"slow", 1, 77))
    assert (len(events) + lost, more) == (1003, False)
    assert 0 < len(events) * RECORD.size < 50_000
    assert decoded(one.answer(b"slow", 2, 77)) == ([], 0, False)
    assert decoded(one.answer(b"quick", 11, 78)) == ([], 3, False)


def test_who_is_silent_is_dropped_and_may_come_back(
    one: Tracer, source: Made, clock: Clock
) -> None:
    one.answer(b"r", 0, 77)
    source.add(LOOKUP, 1, b"name")
    clock.now = 4.9
    assert one.readers() == 1
    clock.now = 5.1
    assert one.readers() == 0
    assert source.pids == b""
    source.requests += 10
    assert left(one, b"r")[2] == END
    file = one._asleep[b"r"][0]
    assert decoded(one.answer(b"r", 1, 77)) == ([], 11, False)
    assert one.readers() == 1
    assert os.pread(file, REPLY.size, REST_AT) == bytes(REPLY.size)
    source.add(LOOKUP, 1, b"name")
    assert len(decoded(one.answer(b"r", 2, 77))[0]) == 1


def test_only_so_many_are_told(one: Tracer, clock: Clock) -> None:
    for number in range(8):
        one.answer(b"%d" % number, 0, 77)
    with refused(errno.EBUSY):
        one.answer(b"one more", 0, 77)
    one.end(b"0")
    one.answer(b"one more", 0, 77)
    with refused(errno.ESTALE):
        one.answer(b"0", 1, 77)
    clock.now = 6
    one.answer(b"another", 0, 77)
    assert one.readers() == 1


def test_the_loop_takes_records_before_they_are_too_many(one: Tracer, source: Made) -> None:
    one.answer(b"r", 0, 77)
    for _ in range(255):
        source.add(LOOKUP, 1, b"name")
    loop_turn()
    assert source.trace_waiting() == 255
    source.add(LOOKUP, 1, b"name")
    loop_turn()
    assert source.trace_waiting() == 0
    one.end(b"r")
    assert loop._at_turns is None


def test_what_goes_wrong_ends_the_telling_only(
    one: Tracer, source: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> int:
        raise MemoryError

    for method, work in (("trace_waiting", loop_turn), ("trace_take", one.settle)):
        one.answer(b"r", 0, 77)
        monkeypatch.setattr(source, method, fail)
        work()
        assert one.readers() == 0 and source.pids == b""


def loop_turn() -> None:
    """As many turns as it takes for a look at what there is."""
    for _ in range(tracer._TURNS):
        assert loop._at_turns is not None
        loop._at_turns()
        if loop._at_turns is None:
            return


def left(one: Tracer, name: bytes) -> tuple[list[Event], int, int]:
    """What is in the file of the reader *name*, whom *one* was left by or dropped."""
    fd = one._asleep[name][0]
    content = os.pread(fd, 1 << 20, REST_AT)
    assert len(content) == REPLY.size + REPLY.unpack_from(content)[2]
    events, lost, _ = decoded(content)
    return events, lost, content[1]


def test_what_is_left_at_the_end_is_in_a_file(one: Tracer, source: Made) -> None:
    for name in (b"r", b"s"):
        one.answer(name, 0, 77)
    source.add(LOOKUP, 1, b"first")
    one.answer(b"r", 1, 77)
    source.add(LOOKUP, 1, b"second")
    source.lost = 3
    one.finish()
    for name, paths in ((b"r", ["/second"]), (b"s", ["/first", "/second"])):
        events, lost, more = left(one, name)
        assert ([event.path for event in events], lost, more) == (paths, 3, END)


def test_later_answers_are_in_the_file_for_who_wants(one: Tracer, source: Made) -> None:
    first = REPLY.unpack(one.answer(b"r", 0, 77))
    assert first[3] == os.getpid()
    for number in (1, 2):
        for count in range(2000):
            source.add(LOOKUP, 1, b"%0255d" % count)
        reply = one.answer(b"r", number, 77, in_memory=True)
        assert len(reply) == REPLY.size == len(one.answer(b"r", number, 77, in_memory=True))
        content = os.pread(first[2], 1 << 20, 0)[: REPLY.size + REPLY.unpack(reply)[2]]
        events, lost, more = decoded(content)
        assert ([int(event.path[1:]) for event in events], lost) == (list(range(2000)), 0)
        assert more is False
    one.end(b"r")
    with refused(errno.EBADF):
        os.fstat(first[2])


def test_an_answer_is_there_until_the_next_is_asked_for(one: Tracer, source: Made) -> None:
    """The end may come between the answer and its reading."""
    fd = REPLY.unpack(one.answer(b"r", 0, 77))[2]
    source.add(LOOKUP, 1, b"first")
    one.answer(b"r", 1, 77, in_memory=True)
    source.add(LOOKUP, 1, b"second")
    one.finish()
    size = REPLY.size + REPLY.unpack(os.pread(fd, REPLY.size, 0))[2]
    assert [event.path for event in decoded(os.pread(fd, size, 0))[0]] == ["/first"]
    assert [event.path for event in left(one, b"r")[0]] == ["/second"]


def test_who_was_dropped_before_the_end_knows_what_he_lost(
    one: Tracer, source: Made, clock: Clock
) -> None:
    one.answer(b"r", 0, 77)
    source.add(LOOKUP, 1, b"told")
    clock.now = 5.1
    assert one.readers() == 0
    assert [event.path for event in left(one, b"r")[0]] == ["/told"]
    source.requests += 10
    one.finish()
    events, lost, more = left(one, b"r")
    assert ([event.path for event in events], lost, more) == (["/told"], 10, END)


def test_without_room_for_the_file_it_is_told_all_the_same(
    one: Tracer, source: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, flags: int) -> int:
        raise OSError(errno.ENFILE, name)

    monkeypatch.setattr(os, "memfd_create", full)
    assert REPLY.unpack(one.answer(b"r", 0, 77))[2] == 0
    source.add(LOOKUP, 1, b"name")
    with refused(errno.EBADF):
        one.answer(b"r", 1, 77, in_memory=True)
    assert [event.path for event in decoded(one.answer(b"r", 1, 77))[0]] == ["/name"]
    one.finish()
    one.end(b"r")


@pytest.mark.parametrize("reply", [b"", b"\0" * 20, b"\1" * 20])
def test_another_form_is_refused(reply: bytes) -> None:
    with pytest.raises(FormError):
        decoded(reply)
