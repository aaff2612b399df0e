"""The checker of storms tested: it explains what can be and refuses what cannot."""

from __future__ import annotations

import pytest

from tests.support.kernel import RENAME_EXCHANGE as EXCHANGE
from tests.support.linear import Done, explained
from tests.support.names_model import ROOT, Call, Obj, State, at_rest

EMPTY: State = {ROOT: Obj(0o755, names=())}
ONE: State = {ROOT: Obj(0o755, names=((b"a", 1),)), 1: Obj(1)}
BOTH: State = {ROOT: Obj(0o755, names=((b"a", 1), (b"b", 2))), 1: Obj(1), 2: Obj(2)}


def done(begin: int, end: int, answer: object, verb: str, *paths: bytes, value: int = 0) -> Done:
    return Done(Call(verb, paths, value), answer, begin, end)


CREATED = done(0, 9, "done", "create", b"a", value=1)


@pytest.mark.parametrize(
    ("before", "histories", "after", "can_be"),
    [
        (EMPTY, [[CREATED]], ONE, True),
        (EMPTY, [[CREATED]], EMPTY, False),  # an acknowledged change is lost
        (EMPTY, [[CREATED], [done(5, 6, ("file", 1), "stat", b"a")]], ONE, True),
        (EMPTY, [[CREATED], [done(5, 6, "ENOENT", "stat", b"a")]], ONE, True),
        (EMPTY, [[CREATED], [done(10, 11, "ENOENT", "stat", b"a")]], ONE, False),  # too late
        (EMPTY, [[CREATED], [done(5, 6, "EISDIR", "unlink", b"a")]], ONE, False),
        (EMPTY, [[CREATED], [done(3, 8, "done", "create", b"a", value=2)]], ONE, False),
        (
            ONE,
            [[done(0, 9, "done", "unlink", b"a")], [done(1, 8, "done", "unlink", b"a")]],
            EMPTY,
            False,
        ),
        (
            ONE,
            [[done(0, 9, "done", "unlink", b"a")], [done(1, 8, "ENOENT", "unlink", b"a")]],
            EMPTY,
            True,
        ),
        # While two names change places both are there, one after the other too.
        (
            BOTH,
            [
                [done(0, 9, "done", "rename", b"a", b"b", value=EXCHANGE)] * 2,
                [done(2, 3, ("file", 2), "stat", b"a"), done(4, 5, ("file", 1), "stat", b"a")],
            ],
            BOTH,
            True,
        ),
        (
            BOTH,
            [
                [done(0, 9, "done", "rename", b"a", b"b", value=EXCHANGE)] * 2,
                [done(2, 3, "ENOENT", "stat", b"a")],
            ],
            BOTH,
            False,
        ),
    ],
)
def test_what_can_be(before, histories, after, can_be):
    assert explained(before, histories, at_rest(after)) is can_be
