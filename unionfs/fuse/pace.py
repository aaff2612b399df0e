"""Whether to wait for a small copy, or to have a thread wait for it.

A copy is on the disk before it shows. To have a thread see to that costs the daemon 0.2 to 0.7 ms
of the one processor that Python uses, which is more than a good disk takes to write a small file;
and a caller who changes many files is served one at a time in any case. But on a slow disk, or a
busy one, everybody else's requests would wait as well. So what the last copies took decides.
Rejected: always a thread, with which ``chmod -R`` takes half as long again; never one for what is
small, with which a disk of 10 ms a file lets nothing else be done.
"""

from __future__ import annotations

_SMALL = 128 << 10  # bytes, which may be waited for
_QUICK_NS = 5_000_000  # what everybody else may be made to wait
_AFTER = 16  # small copies that must be quick, one after the other, once one was not


class Pace:
    """What small copies take on one mount's disk; one thread, without an await inside."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = 0  # copies that must still be quick

    @property
    def is_slow(self) -> bool:
        """Whether small copies are left to threads for now."""
        return self._left > 0

    def may_wait(self, size: int) -> bool:
        """Return whether to wait for a copy of *size* bytes, its data on the disk included."""
        return size <= _SMALL and not self._left

    def took(self, size: int, elapsed: int) -> None:
        """A copy of *size* bytes took *elapsed* ns, the wait for a thread left out."""
        if size > _SMALL:
            return
        if elapsed > _QUICK_NS:
            self._left = _AFTER
        elif self._left:
            self._left -= 1
