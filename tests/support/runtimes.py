"""How crun is called where it works only without a part of the machine's control groups."""

from __future__ import annotations

import os
import shutil

HYBRID = os.path.exists("/sys/fs/cgroup/unified/cgroup.controllers")
_WITHOUT = 'umount /sys/fs/cgroup/unified; exec "$0" "$@"'


def words(runtime: str) -> list[str]:
    """Return the command that *runtime* ("crun" or "runc") is, as words.

    crun does not work where cgroup v2 is mounted beside v1: there it is run without the former.
    """
    program = shutil.which(runtime)
    assert program is not None, f"{runtime} is not installed"
    if runtime == "crun" and HYBRID:
        return ["unshare", "--mount", "sh", "-c", _WITHOUT, program]
    return [program]
