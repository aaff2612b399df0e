"""The mount program with a disk so slow that no copy of a large file ends by itself.

``python -m tests.support.endless WORDS…`` as ``unionfs``. The first time that a file's content is
copied, a byte is written to the fifo named by ``UNIONFS_TEST_BEGUN``.
"""

from __future__ import annotations

import os
import sys
import time

BEGUN = os.environ["UNIONFS_TEST_BEGUN"]
_SECONDS = 0.01  # for a byte: the rest of a megabyte takes hours


def main() -> None:
    from unionfs.cli import main as program
    from unionfs.syscalls import copy

    begun = False

    def copy_range(source: int, target: int, offset: int, length: int) -> int:
        nonlocal begun
        if not begun:
            begun = True
            with open(BEGUN, "wb") as fifo:
                fifo.write(b"!")
        time.sleep(_SECONDS)
        return os.pwrite(target, os.pread(source, 1, offset), offset)

    copy.reflink = lambda source, target: False
    copy.copy_range = copy_range
    sys.argv[0] = "unionfs"
    sys.exit(program.entry())


if __name__ == "__main__":
    main()
