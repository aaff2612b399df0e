"""The mount program where making a file takes a while: ``python -m tests.support.slow WORDS…``.

So that a few clients always have a request in the queue.
"""

from __future__ import annotations

import sys
import time

SECONDS = 0.005


def main() -> None:
    from unionfs.cli import main as program
    from unionfs.fuse.operations import Operations

    original = Operations.create_file

    def slow(*args: object) -> None:
        time.sleep(SECONDS)
        original(*args)  # type: ignore[arg-type]

    Operations.create_file = slow  # type: ignore[assignment, method-assign]
    sys.argv[0] = "unionfs"
    program.entry()


if __name__ == "__main__":
    main()
