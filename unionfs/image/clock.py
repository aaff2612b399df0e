"""When something was made: now, or what SOURCE_DATE_EPOCH says (reproducible-builds.org)."""

from __future__ import annotations

import os
from datetime import UTC, datetime

from unionfs.errors import UsageError

_VARIABLE = "SOURCE_DATE_EPOCH"
_LATEST = 253402300799  # 9999-12-31T23:59:59Z: what RFC 3339 can say


class BadEpochError(UsageError):
    """SOURCE_DATE_EPOCH is not a number of seconds."""


def source_date_epoch() -> int | None:
    """Return SOURCE_DATE_EPOCH in seconds since 1970, None if it is not set.

    Raises BadEpochError.
    """
    text = os.environ.get(_VARIABLE)
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) > _LATEST:
        raise BadEpochError(f"{_VARIABLE} is not a number of seconds since 1970: {text!r}")
    return int(text)


def timestamp() -> str:
    """Return the time of making, RFC 3339 in UTC, to the second. Raises BadEpochError."""
    epoch = source_date_epoch()
    moment = datetime.now(UTC) if epoch is None else datetime.fromtimestamp(epoch, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
