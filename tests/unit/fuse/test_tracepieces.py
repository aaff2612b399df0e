"""Records become few pieces, each with the names that hold for all of it."""

from __future__ import annotations

import random

from unionfs.fuse.tracepieces import Made, Pieces
from unionfs.inspect.piece import Piece, pieces_of
from unionfs.inspect.records import NODE, RECORD


class Nodes:
    """What nodes are called: by their number, unless the test says otherwise."""

    def __init__(self) -> None:
        self.renamed: dict[int, bytes] = {}

    def told(self, number: int) -> bytes:
        path = self.renamed.get(number, b"/%d" % number)
        return NODE.pack(number, len(path), 1) + path + b"1"


def records(nodes: list[int], names: list[bytes], base: int) -> tuple[bytes, bytes]:
    """Records about *names* in *nodes*, the names counted from *base* on."""
    found = []
    for node, name in zip(nodes, names, strict=True):
        at = base & 0xFFFFFFFF
        found.append(RECORD.pack(1, 2, node, 0, 0, 0, 0, at, 7, 0, 1, 1, len(name), 0, b"x"))
        base += len(name)
    return b"".join(found), b"".join(names)


def opened(made: list[Made]) -> list[Piece]:
    found = []
    for data, count in made:
        (piece,) = pieces_of(data)
        assert piece.count == count and len(data) <= 65536 - 20
        found.append(piece)
    return found


def paths(pieces: list[Piece]) -> list[str]:
    return [event.path for piece in pieces for event in piece.events()]


def test_what_comes_bit_by_bit_is_one_piece() -> None:
    pieces = Pieces(Nodes().told)
    base = 0xFFFFFFF0
    for number in range(100):
        assert pieces.add(*records([number + 1, 5], [b"a", b"bc"], base)) == []
        base += 3
    (one,) = opened(pieces.end())
    wanted = [path for number in range(100) for path in (f"/{number + 1}/a", "/5/bc")]
    assert paths([one]) == wanted
    assert pieces.end() == []


def test_another_name_begins_another_piece() -> None:
    nodes = Nodes()
    pieces = Pieces(nodes.told)
    assert pieces.add(*records([3, 4], [b"", b"x"], 0)) == []
    nodes.renamed[3] = b"/moved"
    assert pieces.add(*records([4], [b"y"], 1)) == []
    (before,) = opened(pieces.add(*records([3], [b"z"], 2)))
    (after,) = opened(pieces.end())
    assert paths([before]) == ["/3", "/4/x", "/4/y"]
    assert paths([after]) == ["/moved/z"]


def test_any_records_come_out_in_their_order() -> None:
    chance = random.Random(3)
    nodes = Nodes()
    nodes.renamed = {number: b"/" + b"p" * chance.choice((3, 3, 4000)) for number in range(1, 40)}
    pieces = Pieces(nodes.told)
    base, wanted, made = 2**32 - 5000, [], []
    for _ in range(60):
        count = chance.choice((0, 1, 2, 700, 2048))
        its = [chance.randrange(1, 40) for _ in range(count)]
        names = [b"n" * chance.choice((0, 4, 255)) for _ in range(count)]
        data = records(its, names, base)
        base += len(data[1])
        made += pieces.add(*data)
        if chance.random() < 0.2:
            made += pieces.end()
        for node, name in zip(its, names, strict=True):
            above = nodes.renamed[node].decode()
            wanted.append(f"{above}/{name.decode()}" if name else above)
    made += pieces.end()
    assert paths(opened(made)) == wanted
