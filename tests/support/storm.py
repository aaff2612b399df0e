"""Storms: a few processes make random calls on the same few names at once, round after round.

Each round has a directory of its own, in which layers already have something. Within a round
nobody waits for anybody. What each process did, when, and what it was told goes to the parent,
which asks ``tests.support.linear`` whether it can have been.
"""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import random
import stat
import struct
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from tests.support import kernel, names_model
from tests.support.linear import Done, History
from tests.support.names_model import ROOT, Call, Obj, Seen, State
from tests.support.stacks import Dir, Entry, File, Link, Whiteout

NAMES = (b"a", b"b", b"c")
INNER = (b"x", b"y")
SIZE = 64
_WRITTEN = b"w"[0]
_PATHS = (*NAMES, *NAMES, *(a + b"/" + x for a in NAMES for x in INNER))
_VERBS = (*names_model.VERBS, *["rename"] * 5, "link", "unlink", "create", "put", "chmod")
_FLAGS = (0, 0, 0, kernel.RENAME_EXCHANGE, kernel.RENAME_NOREPLACE)


# --- what there is before ------------------------------------------------------------------------


def populate(rounds: int, seed: int) -> tuple[list[list[Entry]], list[State]]:
    """Return three layers, the bottom one first, and what each round's directory shows of them."""
    rand = random.Random(seed)
    layers: list[list[Entry]] = [[], [], []]
    states = []
    for number in range(rounds):
        states.append(_Place(layers, b"%d" % number, rand).state)
    return layers, states


class _Place:
    """One round's directory: entries for the layers, and the state that they come to."""

    def __init__(self, layers: list[list[Entry]], root: bytes, rand: random.Random) -> None:
        self.layers, self.root, self.rand = layers, root, rand
        self.state: State = {ROOT: Obj(0o755, names=())}
        layers[0].append(Dir(root))
        for name in NAMES:
            what = rand.choice(
                (self._file, self._file, self._link, self._plain, self._merged, self._gone, None)
            )
            if what is not None:
                what(name)

    def _add(self, path: bytes, **how: object) -> int:
        """Note a new object at *path* and return its number, which is its tag too."""
        number = len(self.state)
        self.state[number] = Obj(number, **how)  # type: ignore[arg-type]
        self._name(path, number)
        return number

    def _name(self, path: bytes, number: int) -> None:
        folder, _, name = path.rpartition(b"/")
        above = self.state[ROOT].get(folder) if folder else ROOT
        assert above is not None
        self.state[above] = self.state[above].put(name, number)

    def _put(self, layer: int, kind: type, path: bytes, **how: object) -> None:
        self.layers[layer].append(kind(self.root + b"/" + path, **how))

    def _file(self, path: bytes, layer: int | None = None) -> None:
        where = self.rand.randrange(3) if layer is None else layer
        self._put(where, File, path, fill=b".", size=SIZE, mode=self._add(path))

    def _link(self, path: bytes) -> None:
        """A file of the bottom layer with a second name, which no call is about."""
        number = self._add(path, links=2)
        self._put(0, File, path, fill=b".", size=SIZE, mode=number)
        other = path.upper()
        self._name(other, number)
        self._put(0, Link, other, target=self.root + b"/" + path)

    def _plain(self, path: bytes) -> None:
        layer = self.rand.randrange(3)
        self._put(layer, Dir, path, mode=self._add(path, names=()))
        if self.rand.random() < 0.5:
            self._file(path + b"/x", layer)

    def _merged(self, path: bytes) -> None:
        number = self._add(path, names=())
        for layer in (0, 2):
            self._put(layer, Dir, path, mode=number)
        self._put(0, File, path + b"/y", fill=b"never seen")
        if self.rand.random() < 0.5:
            self._put(2, Whiteout, path + b"/y")
        else:
            self._file(path + b"/y", 2)

    def _gone(self, path: bytes) -> None:
        self._put(0, Dir, path)
        self._put(0, File, path + b"/x", fill=b"never seen")
        self._put(1, Whiteout, path)


def calls(rand: random.Random, process: int, count: int) -> list[Call]:
    """Return *count* random calls; tags and offsets of two processes are never the same."""
    return [_call(rand, 32 + process * 16 + number) for number in range(count)]


def _call(rand: random.Random, own: int) -> Call:
    verb = rand.choice(_VERBS)
    paths = (rand.choice(_PATHS), rand.choice(_PATHS))
    if verb == "rename":
        return Call(verb, paths, rand.choice(_FLAGS))
    return Call(verb, paths if verb == "link" else paths[:1], own)


# --- doing it ------------------------------------------------------------------------------------


def perform(root: bytes, call: Call) -> object:
    """Make *call* below *root* and return its answer as the model spells it."""
    try:
        return _PERFORM[call.verb](*(root + b"/" + path for path in call.paths), call.value)
    except OSError as error:
        return errno.errorcode[error.errno or 0]


def _done(function: Callable[..., object]) -> Callable[..., str]:
    def call(*args: object) -> str:
        function(*args)
        return "done"

    return call


def _stat(path: bytes, _value: int) -> tuple[str, int]:
    mode = os.lstat(path).st_mode
    return "dir" if stat.S_ISDIR(mode) else "file", mode & 0o777


def _list(path: bytes, _value: int) -> tuple[bytes, ...]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        found = kernel.getdents_once(fd, 32768)
    finally:
        os.close(fd)
    return tuple(sorted(entry.name for entry in found if entry.name not in (b".", b"..")))


def _put(path: bytes, at: int) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, bytes([_WRITTEN]), at)
    finally:
        os.close(fd)


def _get(path: bytes, _value: int = 0) -> tuple[int, ...]:
    fd = os.open(path, os.O_RDONLY)
    try:
        data = os.pread(fd, 4096, 0)
    finally:
        os.close(fd)
    return tuple(at for at, byte in enumerate(data) if byte == _WRITTEN)


def _create(path: bytes, mode: int) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))


_PERFORM: dict[str, Callable[..., object]] = {
    "stat": _stat,
    "list": _list,
    "chmod": _done(os.chmod),
    "put": _done(_put),
    "get": _get,
    "mkdir": _done(os.mkdir),
    "create": _done(_create),
    "unlink": _done(lambda path, _value: os.unlink(path)),
    "rmdir": _done(lambda path, _value: os.rmdir(path)),
    "link": _done(lambda old, new, _value: os.link(old, new)),
    "rename": _done(kernel.renameat2),
}


class StartingLine:
    """Where *count* processes or threads wait for one another before each round.

    They look again and again rather than sleep, so that they really start at once.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._rounds = mmap.mmap(-1, 8 * count)

    def wait(self, own: int, number: int) -> None:
        struct.pack_into("=q", self._rounds, 8 * own, number)
        end = time.monotonic() + 60
        while min(struct.unpack_from(f"={self.count}q", self._rounds)) < number:
            os.sched_yield()
            assert time.monotonic() < end, "somebody did not come to the next round"


def storm(
    folders: Sequence[bytes], workers: int, length: int, seed: int, *, threads: bool = False
) -> list[list[History]]:
    """Let *workers* make *length* calls each in every one of *folders*, one after another.

    Returns the histories of each round.
    """
    line = StartingLine(workers)

    def work(own: int) -> list[History]:
        rand = random.Random(seed * 1000 + own)
        return [
            _round(folder, calls(rand, own, length), partial(line.wait, own, number))
            for number, folder in enumerate(folders, 1)
        ]

    each = _in_threads(work, workers) if threads else in_processes(work, workers)
    return [list(histories) for histories in zip(*each, strict=True)]


def _round(folder: bytes, todo: Sequence[Call], wait: Callable[[], None]) -> History:
    done = []
    wait()
    for call in todo:
        begin = time.monotonic_ns()
        answer = perform(folder, call)
        done.append(Done(call, answer, begin, time.monotonic_ns()))
    return done


def in_processes(work: Callable[[int], object], count: int) -> list:
    """Return what ``work(number)`` returns in *count* processes at once; all must succeed."""
    children = []
    for number in range(count):
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reader)
            _child(work, number, writer)
        os.close(writer)
        children.append((pid, reader))
    results = []
    for pid, reader in children:
        with open(reader, "rb") as pipe:
            data = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status == 0, f"a process of the storm ended with {status}: {data.decode('latin-1')}"
        results.append(pickle.loads(data))
    return results


def _child(work: Callable[[int], object], number: int, writer: int) -> None:
    status = 1
    try:
        os.umask(0)
        data = pickle.dumps(work(number))
        status = 0
    except BaseException as error:
        data = repr(error).encode()
    finally:
        with open(writer, "wb") as pipe:
            pipe.write(data)
        os._exit(status)


def _in_threads(work: Callable[[int], object], count: int) -> list:
    results: dict[int, object] = {}
    before = os.umask(0)
    threads = [
        threading.Thread(target=lambda own=own: results.update({own: work(own)}))
        for own in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.umask(before)
    return [results[number] for number in range(count)]


# --- what there is afterwards --------------------------------------------------------------------


def look(root: bytes) -> dict[bytes, Seen]:
    """Return what a walk of *root* shows, as ``names_model.at_rest`` does for a state."""
    found: dict[bytes, os.stat_result] = {}
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(folder, name)
            found[path[len(root) + 1 :]] = os.lstat(path)
    same: dict[int, list[bytes]] = {}
    for path, st in found.items():
        same.setdefault(st.st_ino, []).append(path)
    return {
        path: Seen(
            "dir" if (is_dir := stat.S_ISDIR(st.st_mode)) else "file",
            st.st_mode & 0o777,
            0 if is_dir else st.st_nlink,
            () if is_dir else _get(root + b"/" + path),
            tuple(sorted(same[st.st_ino])),
        )
        for path, st in found.items()
    }
