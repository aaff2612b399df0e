"""Pieces of requests: parts of them, as bytes, and damaged ones."""

from __future__ import annotations

import pytest

from tests.support.traced import asked, piece_of
from unionfs.inspect.piece import FormError, Piece, decoded, pieces_of

EVENTS = [
    asked("lookup", "/a/\udcff\n", errno=2, pid=9, command="é" * 7 + "\udcc3"),
    asked("rename2", "/a/b", other="/c", layer="upper"),
    asked("statfs", ""),
    asked("opcode_63", "/", layer="3", size=2**63, offset=5, extension=True),
    asked("read", "/a/long" + "g" * 240, layer="3", took_ns=2**40),
]


@pytest.mark.parametrize("base", [0, 0xFFFFFFFE])
def test_events_and_parts_survive_being_packed(base: int) -> None:
    piece = piece_of(EVENTS, base=base, clock=-7)
    assert list(piece.events()) == EVENTS
    for rows in ([], [0], [4], [1, 3], [0, 2, 4], [0, 1, 2, 3, 4]):
        part = piece.only(rows)
        chosen = [EVENTS[row] for row in rows]
        assert (part.count, list(part.events())) == (len(rows), chosen)
        assert list(part.only(range(part.count)).events()) == chosen
        (again,) = pieces_of(memoryview(part.packed()))
        assert list(again.events()) == chosen
        assert [piece.paths(row) for row in rows] == [(e.path, e.other) for e in chosen]


def test_a_part_takes_no_more_room_than_it_needs() -> None:
    many = [asked("lookup", f"/d{number}/name") for number in range(200)]
    piece = piece_of(many)
    assert len(piece.only([7]).packed()) == len(piece_of(many[7:8]).packed())
    assert len(piece.only([7, 9]).packed()) < len(piece.packed()) / 50


def test_what_is_damaged_is_no_other_error() -> None:
    piece = piece_of(EVENTS)
    for damaged in (
        Piece(b"", piece.records, piece.heap, 0, 0),
        Piece(piece.nodes[:-30], piece.records, piece.heap, 0, 0),
        Piece(piece.nodes + b"x", piece.records, piece.heap, 0, 0),
        Piece(piece.nodes, piece.records, piece.heap[:-1], 0, 0),
        Piece(piece.nodes, piece.records, piece.heap, 1 << 20, 0),
    ):
        with pytest.raises(FormError):
            list(damaged.events())
    with pytest.raises(FormError):
        decoded(b"")
