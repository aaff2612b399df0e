"""What a mount's daemon says of itself, of whatever version it is."""

from __future__ import annotations

import json

from unionfs.container.stats import read_stats
from unionfs.syscalls import xattr


def test_a_daemon_that_was_started_before_an_upgrade_is_understood(monkeypatch):
    said = {"pid": 5, "answered_directly": 3}
    monkeypatch.setattr(xattr, "get", lambda *_: json.dumps(said).encode())
    found = read_stats(b"/mnt")
    assert found["answered_directly"] == 3
    assert found["files_ahead"] == {"asked": 0, "foreseen": 0}
