"""Statistics of a mount's requests: counted without keeping any of them.

How long each took is kept as a count in a bucket whose limits are powers of two, so that noting
costs the same however many there are. A percentile is then known to lie in a bucket, and is told as
the place in it that it would have if the bucket's requests were spread evenly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BUCKETS = 40  # the last begins at 2**39 ns, nine minutes

# What requests are called, by number: enum fuse_opcode, linux/fuse.h
OPERATIONS = {
    1: "lookup",
    2: "forget",
    3: "getattr",
    4: "setattr",
    5: "readlink",
    6: "symlink",
    8: "mknod",
    9: "mkdir",
    10: "unlink",
    11: "rmdir",
    12: "rename",
    13: "link",
    14: "open",
    15: "read",
    16: "write",
    17: "statfs",
    18: "release",
    20: "fsync",
    21: "setxattr",
    22: "getxattr",
    23: "listxattr",
    24: "removexattr",
    25: "flush",
    26: "init",
    27: "opendir",
    28: "readdir",
    29: "releasedir",
    30: "fsyncdir",
    34: "access",
    35: "create",
    36: "interrupt",
    38: "destroy",
    39: "ioctl",
    40: "poll",
    41: "notify_reply",
    42: "batch_forget",
    43: "fallocate",
    44: "readdirplus",
    45: "rename2",
    46: "lseek",
    47: "copy_file_range",
    51: "tmpfile",
    52: "statx",
}


@dataclass(slots=True)
class Operation:
    """Requests of one kind: times in nanoseconds; ``buckets[n]`` took from 2**n to 2**(n+1).

    The first bucket begins at 0. Requests that nobody answers (forget) are in no bucket.
    """

    count: int = 0
    errors: int = 0
    total_ns: int = 0
    longest_ns: int = 0
    buckets: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def note(self, took_ns: int) -> None:
        """Count a request that took *took_ns*."""
        self.count += 1
        self.total_ns += took_ns
        self.longest_ns = max(self.longest_ns, took_ns)
        self.buckets[min(max(took_ns.bit_length() - 1, 0), BUCKETS - 1)] += 1

    def percentile(self, percent: float) -> float:
        """Return the time (ns) within which *percent* of the answered requests were answered."""
        answered = sum(self.buckets)
        rest = answered * percent / 100
        for place, count in enumerate(self.buckets):
            if count and count >= rest:
                start = 2.0**place if place else 0.0
                within = start + (2.0 ** (place + 1) - start) * rest / count
                return min(within, float(self.longest_ns))
            rest -= count
        return float(self.longest_ns)

    def since(self, before: Operation) -> Operation:
        """Return what came after *before*, an earlier state; the longest is of all the time."""
        return Operation(
            self.count - before.count,
            self.errors - before.errors,
            self.total_ns - before.total_ns,
            self.longest_ns,
            [now - then for now, then in zip(self.buckets, before.buckets, strict=True)],
        )

    def document(self) -> dict[str, Any]:
        """Return it for JSON; buckets after the last that counts are left out."""
        used = max((n + 1 for n, count in enumerate(self.buckets) if count), default=0)
        return {
            "count": self.count,
            "errors": self.errors,
            "total_ns": self.total_ns,
            "longest_ns": self.longest_ns,
            "buckets": self.buckets[:used],
        }


def operations_of(document: Mapping[str, Any]) -> dict[str, Operation]:
    """Return the operations of a mount's statistics, by name, as ``document`` wrote them."""
    return {name: _read(one) for name, one in document["requests"].items()}


def _read(one: Mapping[str, Any]) -> Operation:
    buckets: Sequence[int] = one["buckets"]
    return Operation(
        one["count"],
        one["errors"],
        one["total_ns"],
        one["longest_ns"],
        [*buckets, *[0] * (BUCKETS - len(buckets))],
    )
