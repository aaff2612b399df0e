"""A process that has imported the daemon's libraries once and forks a daemon for each mount.

Starting Python, trio and pyfuse3 takes 0.3 s; a fork of a process that has them takes 5 ms. So the
property tests get a fresh mount for every example. The child does what the mount helper's daemon
does, from the words of ``-o`` on. Protocol: one JSON object a line on standard input, one on
standard output.

``{"mount": OPTIONS, "target": PATH, "log": PATH, "descriptors": N or null, "container": BOOL,
"indexed": BOOL, ASKED or PATH}`` mounts in helper form, or as a container of the store is mounted,
which reads no AUFS names; with a merged index of the lowers, where they can have one, or (ASKED)
with one from where owners are others, so that files are asked for attributes, or with that file. It
answers ``{"pid": N}`` when mounted, or ``{"error": TEXT}``. ``{"wait": PID}`` answers
``{"status": N}`` when that daemon has left.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unionfs.options import MountConfig

ASKED = "asked"
# A daemon that hangs is killed; its mount then answers ENOTCONN and not never. In the full run some
# are used for minutes.
LIFE_SECONDS = 7200 if os.environ.get("HYPOTHESIS_PROFILE") == "full" else 300


def main() -> None:
    import unionfs.fuse.session  # noqa: F401 - trio and pyfuse3 come with it

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            _pid, status = os.waitpid(request["wait"], 0)
            answer = {"status": os.waitstatus_to_exitcode(status)}
        else:
            answer = _start(request)
        print(json.dumps(answer), flush=True)


def _start(request) -> dict:
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours)
        os._exit(_daemon(request, theirs))
    os.close(theirs)
    with open(ours, "rb") as pipe:
        word = pipe.read()
    if word == b"mounted":
        return {"pid": pid}
    os.waitpid(pid, 0)
    return {"error": word.decode(errors="replace") or "the daemon died without a word"}


def _daemon(request, ready: int) -> int:
    """Be the daemon of one mount until it is unmounted; return the exit status."""
    signal.alarm(LIFE_SECONDS)
    if request.get("descriptors"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (request["descriptors"],) * 2)
    _own_descriptors(request["log"])
    try:
        from unionfs.daemon import logs
        from unionfs.daemon.serve import STOP, live
        from unionfs.options import parse_helper_options

        logs.to_stderr(debug=False)
        parsed = parse_helper_options([request["mount"]], privileged=os.getuid() == 0)
        config = replace(parsed, aufs=not request["container"])
        if request["indexed"]:
            config = replace(config, index=_index(config, request["indexed"], request["log"]))

        def tell() -> None:
            os.write(ready, b"mounted")
            os.close(ready)

        target = os.fsencode(request["target"])
        live(config, target, tell, signals=STOP, factory=None)
    except BaseException as error:
        traceback.print_exc()
        os.write(ready, f"{type(error).__name__}: {error}".encode())
        return 1
    finally:
        sys.stderr.flush()
    return 0


def _index(config: MountConfig, which: bool | str, log: str) -> bytes | None:
    from tests.support.indexes import disown, write_index

    if which not in (True, ASKED):
        return os.fsencode(which)
    index = write_index(config, os.fsencode(log + ".index"))
    if index is not None and which == ASKED:
        disown(index)
    return index


def _own_descriptors(log: str) -> None:
    fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(fd, 1)
    os.dup2(fd, 2)


if __name__ == "__main__":
    main()
