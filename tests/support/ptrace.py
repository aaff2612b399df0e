"""Standing between a process and the kernel at each of its system calls: ptrace(2), bare.

``Calls`` stops every thread of a process at the beginning and at the end of each call. Whoever
drives it decides at the beginning what becomes of the call: it is made, it fails without being
made, or the process is killed before it is made. Calls made from C are seen as those from Python.

A tracee belongs to the thread that seized it, so all of this is for one thread; when that thread
ends, the kernel lets everything go on untraced.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

_SYSCALL, _SEIZE, _INTERRUPT, _LISTEN = 24, 0x4206, 0x4207, 0x4208
_GETEVENTMSG, _GETREGSET, _SETREGSET, _GET_SYSCALL_INFO = 0x4201, 0x4204, 0x4205, 0x420E
_O_SYSGOOD, _O_FORK, _O_VFORK, _O_CLONE = 1, 2, 4, 8
_EVENT_FORK, _EVENT_VFORK, _EVENT_STOP = 1, 2, 128
_CALL_STOP = signal.SIGTRAP | 0x80
_STOPPING = (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_INFO_ENTRY = 1
_WALL, _WNOTHREAD = 0x40000000, 0x20000000
_NT_PRSTATUS, _NT_ARM_SYSTEM_CALL = 1, 0x404
_X86_RAX, _X86_ORIG_RAX = 10, 15  # places in struct user_regs_struct
_AT_FDCWD = -100

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.restype = ctypes.c_long
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)


class _Info(ctypes.Structure):
    """The beginning of struct ptrace_syscall_info, as of a call's entry."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("ip", ctypes.c_uint64),
        ("sp", ctypes.c_uint64),
        ("nr", ctypes.c_uint64),
        ("args", ctypes.c_uint64 * 6),
    )


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Call(NamedTuple):
    """A system call about to be made by the thread *tid* of the process *pid*."""

    pid: int
    tid: int
    name: str
    args: tuple[int, ...]

    def fd(self, position: int = 0) -> int:
        """Return the argument at *position* as the signed number that a descriptor is."""
        return ctypes.c_int(self.args[position] & 0xFFFFFFFF).value

    def opened(self, position: int = 0) -> bytes:
        """Return what the descriptor at *position* is open on, as /proc shows it."""
        if self.fd(position) == _AT_FDCWD:
            return b"."
        try:
            return os.readlink(b"/proc/%d/fd/%d" % (self.tid, self.fd(position)))
        except OSError:
            return b""


@cache
def names() -> dict[int, str]:
    """Return the system calls of this machine by number, as its C headers have them."""
    done = subprocess.run(
        ["gcc", "-E", "-dM", "-include", "sys/syscall.h", "-x", "c", "/dev/null"],
        check=True,
        capture_output=True,
        text=True,
    )
    words = (line.split() for line in done.stdout.splitlines())
    found = (word for word in words if len(word) == 3 and word[1].startswith("__NR_"))
    return {int(word[2]): word[1].removeprefix("__NR_") for word in found if word[2].isdecimal()}


class Calls:
    """The calls of the process *pid*, and with *children* of what it forks from now on.

    Iterating yields each call at its beginning, and ends when every traced process has, or when
    ``stop`` is asked for at a signal (any ignored one will do to wake a sleeping tracee).
    """

    def __init__(self, pid: int, *, children: bool = False) -> None:
        """Seize *pid*, all threads; returns when none of them can make a call unseen.

        Raises OSError.
        """
        names()
        self.stop = False
        self.forked: list[int] = []  # processes, in the order of their births
        self._options = _O_SYSGOOD | _O_CLONE | ((_O_FORK | _O_VFORK) if children else 0)
        self._processes: dict[int, int] = {}
        self._seize_threads(pid)

    def _seize_threads(self, pid: int) -> None:
        while new := {int(name) for name in os.listdir(f"/proc/{pid}/task")} - set(self._processes):
            for tid in new:
                _ptrace(_SEIZE, tid, 0, self._options)
                self._processes[tid] = pid
                _ptrace(_INTERRUPT, tid)
                _, status = os.waitpid(tid, _WALL)
                if os.WIFSTOPPED(status):
                    _ptrace(_SYSCALL, tid)

    def __iter__(self) -> Iterator[Call]:
        while not self.stop:
            try:
                tid, status = os.waitpid(-1, _WALL | _WNOTHREAD)
            except ChildProcessError:
                return
            if os.WIFSTOPPED(status):
                yield from self._at_stop(tid, os.WSTOPSIG(status), status >> 16)

    def _at_stop(self, tid: int, number: int, event: int) -> Iterator[Call]:
        deliver = 0
        if number == _CALL_STOP:
            call = self._entered(tid)
            if call is not None:
                yield call
        elif event == _EVENT_STOP:
            if number in _STOPPING:
                _ptrace_if_there(_LISTEN, tid, 0)
                return
        elif event in (_EVENT_FORK, _EVENT_VFORK):
            self.forked.append(_event_message(tid))
        elif not event:
            deliver = number
        if not self.stop:
            _ptrace_if_there(_SYSCALL, tid, deliver)

    def _entered(self, tid: int) -> Call | None:
        info = _Info()
        size = ctypes.sizeof(info)
        try:
            _ptrace(_GET_SYSCALL_INFO, tid, size, ctypes.addressof(info))
        except ProcessLookupError:
            return None  # killed meanwhile
        if info.op != _INFO_ENTRY:
            return None
        name = names().get(info.nr, f"call {info.nr}")
        return Call(self._process_of(tid), tid, name, tuple(info.args))

    def _process_of(self, tid: int) -> int:
        if tid not in self._processes:
            self._processes[tid] = _thread_group(tid)
        return self._processes[tid]


def fail(call: Call, number: int) -> None:
    """Let *call*, at its beginning, end with the errno *number* and not be made. Raises OSError."""
    machine = os.uname().machine
    registers = (ctypes.c_uint64 * 64)()
    vector = _Vector(ctypes.addressof(registers), ctypes.sizeof(registers))
    _ptrace(_GETREGSET, call.tid, _NT_PRSTATUS, ctypes.addressof(vector))
    result = 2**64 - number
    if machine == "x86_64":
        registers[_X86_RAX], registers[_X86_ORIG_RAX] = result, 2**64 - 1
    else:
        assert machine == "aarch64", machine
        registers[0] = result
        none = ctypes.c_int(-1)
        other = _Vector(ctypes.addressof(none), ctypes.sizeof(none))
        _ptrace(_SETREGSET, call.tid, _NT_ARM_SYSTEM_CALL, ctypes.addressof(other))
    _ptrace(_SETREGSET, call.tid, _NT_PRSTATUS, ctypes.addressof(vector))


def _thread_group(tid: int) -> int:
    with open(f"/proc/{tid}/status", "rb") as status:
        for line in status:
            if line.startswith(b"Tgid:"):
                return int(line.split()[1])
    raise ProcessLookupError(tid)


def _event_message(tid: int) -> int:
    message = ctypes.c_ulong()
    _ptrace(_GETEVENTMSG, tid, 0, ctypes.addressof(message))
    return message.value


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> None:
    if _libc.ptrace(request, tid, address, data) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"ptrace request {request:#x}")


def _ptrace_if_there(request: int, tid: int, data: int) -> None:
    """As ``_ptrace``, for a tracee that may have been killed in its stop."""
    try:
        _ptrace(request, tid, 0, data)
    except ProcessLookupError:
        pass
