"""``make install`` and ``make uninstall``.

PREFIX is where the program is used, DESTDIR a stage before it that no installed file names, SBINDIR
where mount(8) looks for its helpers, which is in no prefix; empty, it leaves the helper out.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.install import completions, environment, manual
from scripts.install.errors import InstallError
from scripts.install.words import program

_OURS = "lib/unionfs"  # below PREFIX: a directory of ours alone
_MARK = "bin/unionfs"  # by which it is known to be ours


@dataclass(frozen=True, slots=True)
class Places:
    """Where things go: absolute paths as they will be used, and the stage before them."""

    prefix: str
    sbin: str | None
    stage: str

    def staged(self, path: str) -> Path:
        """Return where *path* is now."""
        return Path(self.stage + path)

    def links(self) -> Iterator[tuple[str, str]]:
        """Yield the commands, each with what it is a link to."""
        yield f"{self.prefix}/bin/unionfs", f"../{_OURS}/{_MARK}"
        if self.sbin is not None:
            yield f"{self.sbin}/mount.fuse.unionfs", f"{self.prefix}/bin/unionfs"

    def texts(self) -> dict[str, str]:
        """Return the files that are made from the command's parser."""
        tree, share = program(), f"{self.prefix}/share"
        seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
        return {
            f"{share}/man/man1/unionfs.1": manual.page(tree, seconds=seconds),
            f"{share}/man/man8/mount.fuse.unionfs.8": manual.alias(),
            f"{share}/bash-completion/completions/unionfs": completions.bash(tree),
            f"{share}/zsh/site-functions/_unionfs": completions.zsh(tree),
            f"{share}/fish/vendor_completions.d/unionfs.fish": completions.fish(tree),
        }


def main() -> int:
    """Install or uninstall as the words say; the exit status is 1 when that fails."""
    parser = argparse.ArgumentParser(prog="make install", description=__doc__)
    parser.add_argument("verb", choices=("install", "uninstall"))
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--sbindir", required=True)
    parser.add_argument("--destdir", required=True)
    args = parser.parse_args()
    try:
        places = _places(args.prefix, args.sbindir, args.destdir)
        (install if args.verb == "install" else uninstall)(places)
    except (InstallError, OSError) as error:
        print(f"{args.verb}: error: {error}", file=sys.stderr)
        return 1
    return 0


def install(places: Places) -> None:
    """Put everything in its place; what an earlier installation left there is replaced."""
    ours = places.staged(f"{places.prefix}/{_OURS}")
    _require_ours(ours)
    _require_writable(places)
    texts = places.texts()
    _make_directory(ours.parent)
    with tempfile.TemporaryDirectory(dir=ours.parent, prefix=".unionfs-") as scratch:
        fresh = Path(scratch, "new")
        environment.make(fresh, f"{places.prefix}/{_OURS}")
        if ours.exists():
            ours.rename(Path(scratch, "old"))
        fresh.rename(ours)
    for name, text in texts.items():
        path = places.staged(name)
        _make_directory(path.parent)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o644)
    for link, target in places.links():
        _link(places.staged(link), target)
    print(f"installed {places.prefix}/bin/unionfs")


def uninstall(places: Places) -> None:
    """Remove what ``install`` with the same words put there, and nothing else."""
    ours = places.staged(f"{places.prefix}/{_OURS}")
    _require_ours(ours)
    for link, target in places.links():
        path = places.staged(link)
        if path.is_symlink() and os.readlink(path) == target:
            path.unlink()
    for name in places.texts():
        places.staged(name).unlink(missing_ok=True)
    if ours.exists():
        shutil.rmtree(ours)
    print(f"removed {places.prefix}/bin/unionfs")


def _places(prefix: str, sbin: str, destdir: str) -> Places:
    for name, path in (("PREFIX", prefix), ("SBINDIR", sbin or "/"), ("DESTDIR", destdir or "/")):
        if not path.startswith("/"):
            raise InstallError(f"{name} is no absolute path: {path}")
        if any(character.isspace() for character in path):
            raise InstallError(f"{name} has white space in it, which no #! line takes: {path!r}")
    return Places(os.path.normpath(prefix), os.path.normpath(sbin) if sbin else None, destdir)


def _require_ours(directory: Path) -> None:
    """Raise InstallError where *directory* exists and is not what ``install`` makes."""
    if directory.exists() and not (directory / _MARK).is_file():
        raise InstallError(f"{directory} exists and is no installation of unionfs")


def _require_writable(places: Places) -> None:
    """Raise InstallError where a command cannot be put into its place, before anything is done."""
    for link, _ in places.links():
        path = places.staged(link)
        if path.exists() and not path.is_symlink():
            raise InstallError(f"{path} exists and is no link to unionfs")
        there = next(parent for parent in path.parents if parent.exists())
        if not os.access(there, os.W_OK):
            raise InstallError(
                f"you may not write to {there} (PREFIX=DIR installs elsewhere; SBINDIR= leaves out "
                "mount.fuse.unionfs, which only mount(8) needs)"
            )


def _link(path: Path, target: str) -> None:
    _make_directory(path.parent)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _make_directory(path: Path) -> None:
    """Make *path* and what leads to it, open to everybody whatever the umask."""
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir()
        path.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
