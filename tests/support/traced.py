"""Requests of no mount, for tests of what is made of them."""

from __future__ import annotations

from unionfs.inspect.event import Event


def asked(operation: str, path: str = "/f", **more) -> Event:
    """A request of one microsecond that succeeded, but for what is said."""
    about = {"start_ns": 1_700_000_000_000_000_000, "took_ns": 1000, "pid": 7, "command": "sh"}
    return Event(**{**about, "operation": operation, "path": path, **more})
