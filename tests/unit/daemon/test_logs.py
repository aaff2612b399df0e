"""A daemon's log is bounded, private, and never the reason of a failure."""

import errno
import logging
import os
import stat

import pytest

from unionfs.daemon import logs


@pytest.fixture(autouse=True)
def root_logger():
    root = logging.getLogger()
    before, level, raising = root.handlers[:], root.level, logging.raiseExceptions
    root.handlers[:] = []
    yield root
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = before
    root.setLevel(level)
    logging.raiseExceptions = raising


def test_file_is_private_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        logs.to_file_or_system(os.fsencode(tmp_path / "log"))
    finally:
        os.umask(before)
    logging.getLogger("x").info("said \udcff")
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600
    assert "INFO x: said" in (tmp_path / "log").read_text()


def test_file_is_bounded_with_one_older(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "MAX_BYTES", 2000)
    logs.to_file_or_system(os.fsencode(tmp_path / "log"))
    for number in range(200):
        logging.getLogger("x").info("line %d", number)
    assert sorted(os.listdir(tmp_path)) == ["log", "log.1"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert "line 199" in (tmp_path / "log").read_text()


def test_file_is_not_written_through_a_link(tmp_path):
    (tmp_path / "log").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        logs.to_file_or_system(os.fsencode(tmp_path / "log"))
    assert not (tmp_path / "elsewhere").exists()


def test_system_log_gets_tracebacks_line_by_line(monkeypatch):
    said = []
    monkeypatch.setattr(logs.syslog, "syslog", lambda priority, line: said.append((priority, line)))
    logs.to_file_or_system(None)
    try:
        raise ValueError("a\0b")
    except ValueError:
        logging.getLogger("x").exception("it broke")
    assert said[0] == (logs.syslog.LOG_ERR, "x: it broke")
    assert said[1][1].startswith("Traceback") and said[-1][1] == "ValueError: a\\0b"


@pytest.mark.parametrize(("debug", "shown"), [(True, True), (False, False)])
def test_terminal(capsys, debug, shown):
    logs.to_stderr(debug=debug)
    logging.getLogger("x").debug("detail")
    logging.getLogger("x").warning("alas")
    told = capsys.readouterr().err
    assert ("detail" in told) is shown and "alas" in told


def test_an_answer_that_nobody_waits_for_is_no_error(capsys):
    """As pyfuse3 words it; the tests that mount fail for what it logs beside that."""
    logs.to_stderr(debug=False)
    log = logging.getLogger("pyfuse3")
    log.error("fuse_release(): fuse_reply_* failed with %s", os.strerror(errno.ENOENT))
    log.error("fuse_read(): fuse_reply_* failed with %s", os.strerror(errno.EINVAL))
    log.error("other trouble")
    told = capsys.readouterr().err
    assert "fuse_release" not in told
    assert "fuse_read(): fuse_reply_* failed with Invalid argument" in told and "trouble" in told


def test_place():
    assert logs.place(None) == "the system log" and logs.place(b"/c/log") == "/c/log"
