"""`make demo`: from an image to a root filesystem that programs run in, and back to nothing.

With --image, on any source that `unionfs image import` takes; without it, on a real Debian that
is made first (scripts/demo/image.py) and kept in the cache.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

from scripts.demo import image, story
from scripts.demo.narrate import Narrator, RefusedError, SurpriseError
from unionfs.syscalls.mount import mount_table

_OWN_MOUNTS = ("unshare", "--mount", "--propagation", "private")


def main() -> int:
    """Tell the story; the exit status is 1 when anything in it went otherwise than told."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--image", help="oci:DIR[:REF], docker-archive:FILE, rootfs:DIR, ...")
    given = parser.parse_args().image
    started = time.monotonic()
    source = given or _debian()
    # Not /tmp, which may be in memory and is then no place for an image.
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="unionfs-demo-") as top:
        root = os.path.join(top, "store")
        programs = os.path.dirname(sys.executable)
        path = f"{programs}:{os.environ.get('PATH', os.defpath)}"
        narrator = Narrator({"UNIONFS_ROOT": root, "PATH": path})
        try:
            story.tell(narrator, root, source, given=bool(given))
        except RefusedError as refused:
            print(f"\ndemo: {refused}", file=sys.stderr)
            return 1
        except SurpriseError as surprise:
            print(f"\ndemo: this was not to happen: {surprise}", file=sys.stderr)
            return 1
        finally:
            _clear(narrator, top)
    print(f"\nThat was it, in {time.monotonic() - started:.0f} seconds; nothing of it is left.")
    print("Yours next: make demo IMAGE=docker-archive:FILE, or unionfs --help.")
    return 0


def _debian() -> str:
    """Return the source of the real image, which is made at the first time."""
    if not image.is_made():
        if os.geteuid() != 0:
            sys.exit("demo: the image is made as root, once: sudo make demo (or give IMAGE=)")
        print("First, a real image of five layers, from your own Debian mirror. This takes a")
        print("minute or two, once:\n", flush=True)
        made = subprocess.run([*_OWN_MOUNTS, sys.executable, "-m", "scripts.demo.image"])
        if made.returncode:
            sys.exit(made.returncode)
    return f"oci:{image.layout()}"


def _clear(narrator: Narrator, top: str) -> None:
    """Remove the containers, and let nothing stay mounted below the directory to be deleted."""
    for name in ("left", "right", "afresh"):
        narrator.ask("unionfs", "rm", "--force", name)
    below = os.fsencode(top) + b"/"
    for entry in reversed(mount_table()):
        if entry.target.startswith(below):
            print(f"demo: still mounted: {os.fsdecode(entry.target)}", file=sys.stderr)
            subprocess.run(["umount", "--lazy", os.fsdecode(entry.target)])


if __name__ == "__main__":
    sys.exit(main())
