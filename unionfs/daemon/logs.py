"""Where a daemon's log goes: a bounded file, the system log, or a terminal.

Called in the daemon only; ``logging.handlers`` is imported when a file is asked for.
"""

from __future__ import annotations

import errno
import logging
import os
import syslog
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import TextIOWrapper

MAX_BYTES = 1 << 20  # of a log file; one older file of this size is kept beside it
_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_UNANSWERED = "(): fuse_reply_* failed with %s"
_PRIORITIES = (
    (logging.CRITICAL, syslog.LOG_CRIT),
    (logging.ERROR, syslog.LOG_ERR),
    (logging.WARNING, syslog.LOG_WARNING),
    (logging.INFO, syslog.LOG_INFO),
)


def place(log: bytes | None) -> str:
    """Return for people where a daemon with this *log* (a path, None: the system log) writes."""
    return "the system log" if log is None else os.fsdecode(log)


def to_file_or_system(log: bytes | None) -> None:
    """Send this process's log to the file *log* (made 0600, bounded), or to the system log.

    Raises OSError if the file cannot be opened.
    """
    logging.raiseExceptions = False  # a full disk must not end a mount, nor is anybody listening
    if log is None:
        # syslog writes time, priority and process itself
        _install(_SystemLog(), "%(name)s: %(message)s", logging.INFO)
    else:
        _install(_file_handler(os.fsdecode(log)), _FORMAT, logging.INFO)


def to_stderr(*, debug: bool) -> None:
    """Send this process's log to standard error; with *debug* all of it."""
    _install(logging.StreamHandler(), _FORMAT, logging.DEBUG if debug else logging.WARNING)


def _install(handler: logging.Handler, form: str, level: int) -> None:
    handler.addFilter(_is_news)
    logging.basicConfig(format=form, level=level, handlers=[handler], force=True)


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for what pyfuse3 calls an error and is none: an answer that nobody waits for.

    The kernel has forgotten a request (ENOENT) when an unmount cut it off, the close(2) of a file
    most of the time, or when its caller was killed.
    """
    if record.name != "pyfuse3" or not isinstance(record.msg, str):
        return True
    return not (record.msg.endswith(_UNANSWERED) and record.args == (os.strerror(errno.ENOENT),))


def _file_handler(path: str) -> logging.Handler:
    from logging.handlers import RotatingFileHandler

    class Private(RotatingFileHandler):
        """A rotating file for its owner's eyes whatever the umask, never through a link."""

        def _open(self) -> TextIOWrapper:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self.baseFilename, flags, 0o600)
            return os.fdopen(fd, "a", encoding="utf-8", errors="backslashreplace")

    return Private(path, maxBytes=MAX_BYTES, backupCount=1)


class _SystemLog(logging.Handler):
    """syslog(3), facility daemon: a record's lines one by one, tracebacks included.

    Not ``logging.handlers.SysLogHandler``, which raises where nothing listens on /dev/log.
    """

    def __init__(self) -> None:
        super().__init__()
        syslog.openlog("unionfs", syslog.LOG_PID, syslog.LOG_DAEMON)

    def emit(self, record: logging.LogRecord) -> None:
        priority = next((p for n, p in _PRIORITIES if record.levelno >= n), syslog.LOG_DEBUG)
        for line in self.format(record).splitlines():
            syslog.syslog(priority, line.replace("\0", "\\0"))
