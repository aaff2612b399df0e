"""Is there an order of single steps that explains what several processes saw at once?

Each process did its calls one after another and noted when each began and ended (CLOCK_MONOTONIC,
one clock for all) and what it answered. The history is explained if the steps of all calls
(``tests.support.names_model``) can be put in one order in which each call takes its steps between
its beginning and its end, and each gives the answer that was seen, and the state at the end is the
one that was found. That is linearizability (Herlihy and Wing, 1990), with a walk in several steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tests.support.names_model import (
    Call,
    Failed,
    Impossible,
    Locals,
    Seen,
    State,
    at_rest,
    program,
)


class Done(NamedTuple):
    """A call that returned: what it answered and when (ns)."""

    call: Call
    answer: object
    begin: int
    end: int


History = Sequence[Done]


class Progress(NamedTuple):
    """Where one process is: in which call, at which step, what it found so far."""

    call: int = 0
    step: int = 0
    found: Locals = ()


def explained(before: State, histories: Sequence[History], after: dict[bytes, Seen]) -> bool:
    """Return whether some order leads from *before* through all calls to what *after* shows."""
    todo = [(before, tuple(Progress() for _ in histories))]
    known = set()
    while todo:
        state, where = todo.pop()
        runnable = _runnable(histories, where)
        if not runnable and at_rest(state) == after:
            return True
        for process in runnable:
            moved = _advance(state, histories, where, process)
            if moved is None:
                continue
            key = (tuple(sorted(moved[0].items())), moved[1])
            if key not in known:
                known.add(key)
                todo.append(moved)
    return False


def _runnable(histories: Sequence[History], where: Sequence[Progress]) -> list[int]:
    """Return the processes that may take the next step: no other call must have ended before."""
    left = [
        (number, history[place.call])
        for number, (history, place) in enumerate(zip(histories, where, strict=True))
        if place.call < len(history)
    ]
    first_end = min((done.end for _, done in left), default=0)
    return [number for number, done in left if done.begin <= first_end]


def _advance(
    state: State, histories: Sequence[History], where: tuple[Progress, ...], process: int
) -> tuple[State, tuple[Progress, ...]] | None:
    """Let *process* take one step; None if that cannot have been."""
    place = where[process]
    done = histories[process][place.call]
    steps = program(done.call)
    last = place.step + 1 == len(steps)
    new_object = (process + 1) * 1000 + place.call
    try:
        state, found, answer = steps[place.step](state, done.call, place.found, new_object)
    except Failed as failure:
        last, answer = True, failure.args[0]
    except Impossible:
        return None
    if last and answer != done.answer:
        return None
    after = Progress(place.call + 1) if last else Progress(place.call, place.step + 1, found)
    return state, (*where[:process], after, *where[process + 1 :])


def show(histories: Sequence[History]) -> str:
    """Return the calls of all processes by their beginning, for people; times in µs."""
    calls = sorted(
        (done.begin, number, done) for number, history in enumerate(histories) for done in history
    )
    start = calls[0][0] if calls else 0
    return "\n".join(
        f"  {(done.begin - start) // 1000:6} to {(done.end - start) // 1000:6} µs  process {number}"
        f"  {done.call.verb} {' '.join(map(repr, done.call.paths))} {done.call.value}"
        f" -> {done.answer!r}"
        for _, number, done in calls
    )
