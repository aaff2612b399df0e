"""What Linux promises about names while several processes change them: a model in small steps.

A state is a few files and directories with their names. A system call is a short list of steps;
each is what happens at one moment, under the locks that the kernel holds then (``fs/namei.c``:
a path is walked name by name; a change of a directory looks its last names up again under the
directory's lock). Other calls may come between two steps and not within one.
``tests.support.linear`` asks whether some order of steps explains what processes saw.

Where the kernel does one thing after another inside a lock that readers do not take (a removed file
loses its count of names before its name goes) the model has two steps, so that it never calls
something impossible that a local filesystem does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tests.support import kernel

ROOT = 0
EXCHANGE, NOREPLACE = kernel.RENAME_EXCHANGE, kernel.RENAME_NOREPLACE


class Obj(NamedTuple):
    """A file or (``names`` is not None) a directory.

    ``tag``: its nine permission bits, which no two objects begin with; ``links``: its count of
    names, 0 for a removed directory; ``data``: the offsets that were written to.
    """

    tag: int
    links: int = 1
    names: tuple[tuple[bytes, int], ...] | None = None
    data: frozenset[int] = frozenset()

    @property
    def is_dir(self) -> bool:
        return self.names is not None

    def get(self, name: bytes) -> int | None:
        return dict(self.names or ()).get(name)

    def put(self, name: bytes, number: int | None) -> Obj:
        """Return this directory with *name* for object *number*, or (None) without it."""
        names = dict(self.names or ())
        names.pop(name, None)
        if number is not None:
            names[name] = number
        return self._replace(names=tuple(sorted(names.items())))


class Call(NamedTuple):
    """A system call: *verb* with paths of one or two names and the rest of its arguments."""

    verb: str
    paths: tuple[bytes, ...]
    value: int = 0


class Failed(Exception):
    """The call ends with the errno ``args[0]``."""


class Impossible(Exception):
    """Another call came in between where locks do not let it: no such order."""


State = dict[int, Obj]
Locals = tuple[int, ...]  # the objects that a call has found so far
Step = Callable[[State, Call, Locals, int], tuple[State, Locals, object]]


def program(call: Call) -> list[Step]:
    """Return the steps of *call*; each returns the next state, locals and, if it is the last, the
    answer. Walking to a path's only name takes no step of its own.
    """
    return _PROGRAMS[call.verb]


def _update(state: State, changes: dict[int, Obj]) -> State:
    return {**state, **changes}


def _parent(which: int) -> Step:
    """Walk to the directory of the path number *which*."""

    def step(state: State, call: Call, found: Locals, _new: int):
        first = call.paths[which].rpartition(b"/")[0]
        if not first:
            return state, (*found, ROOT), None
        return state, (*found, _child(state, ROOT, first, directory=True)), None

    return step


def _child(state: State, parent: int, name: bytes, *, directory: bool = False) -> int:
    number = state[parent].get(name)
    if number is None:
        raise Failed("ENOENT")
    if directory and not state[number].is_dir:
        raise Failed("ENOTDIR")
    return number


def _last(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]


def _lookup(state: State, call: Call, found: Locals, _new: int):
    number = _child(state, found[0], _last(call.paths[0]), directory=call.verb == "list")
    if call.verb == "put" and state[number].is_dir:
        raise Failed("EISDIR")
    return state, (*found, number), None


def _stat(state: State, _call: Call, found: Locals, _new: int):
    one = state[found[1]]
    return state, found, ("dir" if one.is_dir else "file", one.tag)


def _list(state: State, _call: Call, found: Locals, _new: int):
    one = state[found[1]]
    if not one.links:
        raise Failed("ENOENT")
    return state, found, tuple(name for name, _number in one.names or ())


def _chmod(state: State, call: Call, found: Locals, _new: int):
    one = state[found[1]]._replace(tag=call.value)
    return _update(state, {found[1]: one}), found, "done"


def _put(state: State, call: Call, found: Locals, _new: int):
    one = state[found[1]]
    return _update(state, {found[1]: one._replace(data=one.data | {call.value})}), found, "done"


def _get(state: State, _call: Call, found: Locals, _new: int):
    one = state[found[1]]
    if one.is_dir:
        raise Failed("EISDIR")
    return state, found, tuple(sorted(one.data))


def _make(state: State, call: Call, found: Locals, new: int):
    parent, name = state[found[0]], _last(call.paths[0])
    if not parent.links:
        raise Failed("ENOENT")
    if parent.get(name) is not None:
        raise Failed("EEXIST")
    one = Obj(call.value, names=() if call.verb == "mkdir" else None)
    return _update(state, {new: one, found[0]: parent.put(name, new)}), found, "done"


def _link(state: State, call: Call, found: Locals, _new: int):
    _, old, folder = found
    name, one = _last(call.paths[1]), state[old]
    if not state[folder].links:
        raise Failed("ENOENT")
    if state[folder].get(name) is not None:
        raise Failed("EEXIST")
    if one.is_dir:
        raise Failed("EPERM")
    if not one.links:
        raise Failed("ENOENT")
    changes = {folder: state[folder].put(name, old), old: one._replace(links=one.links + 1)}
    return _update(state, changes), found, "done"


def _kill(state: State, call: Call, found: Locals, _new: int):
    """Take the count of names from what is removed; its name goes in the next step."""
    number = _child(state, found[0], _last(call.paths[0]))
    one = state[number]
    if call.verb == "unlink" and one.is_dir:
        raise Failed("EISDIR")
    if call.verb == "rmdir":
        if not one.is_dir:
            raise Failed("ENOTDIR")
        if one.names:
            raise Failed("ENOTEMPTY")
    return _update(state, {number: one._replace(links=one.links - 1)}), (*found, number), None


def _drop(state: State, call: Call, found: Locals, _new: int):
    parent, name = state[found[0]], _last(call.paths[0])
    if parent.get(name) != found[1] or state[found[1]].names:
        raise Impossible
    return _update(state, {found[0]: parent.put(name, None)}), found, "done"


def _rename(state: State, call: Call, found: Locals, _new: int):
    """Check; what is replaced loses its count of names. The names change in the next step."""
    old_dir, new_dir = found
    source = _child(state, old_dir, _last(call.paths[0]))
    if not state[new_dir].links:
        raise Failed("ENOENT")
    target = state[new_dir].get(_last(call.paths[1]))
    _check_rename(state, call.value, source, target, old_dir, new_dir)
    if target is None or target == source or call.value == EXCHANGE:
        return state, (*found, source, -1 if target is None else target), None
    one = state[target]._replace(links=state[target].links - 1)
    return _update(state, {target: one}), (*found, source, target), None


def _check_rename(
    state: State, flags: int, source: int, target: int | None, old_dir: int, new_dir: int
) -> None:
    if target is not None and flags == NOREPLACE:
        raise Failed("EEXIST")
    if target is None and flags == EXCHANGE:
        raise Failed("ENOENT")
    if _holds(state, source, new_dir):
        raise Failed("EINVAL")
    if target is not None and _holds(state, target, old_dir):
        raise Failed("EINVAL" if flags == EXCHANGE else "ENOTEMPTY")
    if target is None or target == source or flags == EXCHANGE:
        return
    if state[source].is_dir and not state[target].is_dir:
        raise Failed("ENOTDIR")
    if not state[source].is_dir and state[target].is_dir:
        raise Failed("EISDIR")
    if state[target].names:
        raise Failed("ENOTEMPTY")


def _holds(state: State, above: int, below: int) -> bool:
    """Return whether *below* is *above* or lies in it."""
    inside = [number for _, number in state[above].names or ()]
    return above == below or any(_holds(state, number, below) for number in inside)


def _move(state: State, call: Call, found: Locals, _new: int):
    old_dir, new_dir, source, target = found
    old, new = _last(call.paths[0]), _last(call.paths[1])
    there = state[new_dir].get(new)
    if state[old_dir].get(old) != source or (-1 if there is None else there) != target:
        raise Impossible
    if source == target:
        return state, found, "done"
    exchange = call.value == EXCHANGE
    if target >= 0 and not exchange and state[target].names:
        raise Impossible
    after = _update(state, {old_dir: state[old_dir].put(old, target if exchange else None)})
    return _update(after, {new_dir: after[new_dir].put(new, source)}), found, "done"


_PROGRAMS: dict[str, list[Step]] = {
    "stat": [_parent(0), _lookup, _stat],
    "list": [_parent(0), _lookup, _list],
    "chmod": [_parent(0), _lookup, _chmod],
    "put": [_parent(0), _lookup, _put],
    "get": [_parent(0), _lookup, _get],
    "mkdir": [_parent(0), _make],
    "create": [_parent(0), _make],
    "unlink": [_parent(0), _kill, _drop],
    "rmdir": [_parent(0), _kill, _drop],
    "link": [_parent(0), _lookup, _parent(1), _link],
    "rename": [_parent(0), _parent(1), _rename, _move],
}
VERBS = tuple(_PROGRAMS)


class Seen(NamedTuple):
    """One name at rest: what it is, and all names of the same file."""

    kind: str
    tag: int
    links: int
    data: tuple[int, ...]
    same: tuple[bytes, ...]


def at_rest(state: State) -> dict[bytes, Seen]:
    """Return what a walk of *state* shows, by path."""
    paths = dict(_walk(state, ROOT, b""))
    names: dict[int, list[bytes]] = {}
    for path, number in paths.items():
        names.setdefault(number, []).append(path)
    return {path: _seen(state[number], names[number]) for path, number in paths.items()}


def _walk(state: State, folder: int, prefix: bytes) -> Iterable[tuple[bytes, int]]:
    for name, number in state[folder].names or ():
        yield prefix + name, number
        if state[number].is_dir:
            yield from _walk(state, number, prefix + name + b"/")


def _seen(one: Obj, names: list[bytes]) -> Seen:
    if one.is_dir:
        return Seen("dir", one.tag, 0, (), tuple(names))
    return Seen("file", one.tag, one.links, tuple(sorted(one.data)), tuple(sorted(names)))
