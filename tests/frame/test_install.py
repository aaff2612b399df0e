"""``make install`` into a stage, and the installed program used by root, a user and mount(8).

One installation serves all tests. It is made in a stage and then moved to its prefix, as a package
is made and unpacked.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from scripts.install import environment
from tests.support.ordinary import User, ordinary_user
from tests.support.resident import Spawner, asking_at, daemon, is_resident_s

REPO = Path(__file__).parents[2]
pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]


class Installed:
    """What one ``make install`` brought: ``stage`` is where it was made, ``prefix`` where it is."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.stage, self.prefix, self.sbin = place / "stage", place / "prefix", place / "sbin"
        self.words = (
            f"DESTDIR={self.stage}", f"PREFIX={self.prefix}", f"SBINDIR={self.sbin}"
        )  # fmt: skip
        self.make("install", *self.words)
        self.staged = sorted(str(path) for path in self.stage.rglob("*"))
        for name in ("prefix", "sbin"):
            Path(f"{self.stage}{place}", name).rename(place / name)
        self.command = f"{self.prefix}/bin/unionfs"

    def make(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run make(1) with a umask that closes files to others."""
        done = subprocess.run(
            ["make", "-s", *words], cwd=REPO, capture_output=True, text=True, umask=0o077
        )
        assert done.returncode == status, done
        return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def user(installed: Installed, tmp_path_factory: pytest.TempPathFactory):
    with ordinary_user(tmp_path_factory.mktemp("user")) as ordinary:
        for at in (installed.place, *installed.place.parents):
            at.chmod(at.stat().st_mode | 0o011)
        yield ordinary


def test_no_file_names_the_stage(installed: Installed) -> None:
    stage = os.fsencode(installed.stage)
    files = [path for path in installed.prefix.rglob("*") if path.is_file()]
    assert len(files) > 1000
    assert [path for path in files if stage in path.read_bytes()] == []
    links = [path for path in installed.place.rglob("*") if path.is_symlink()]
    assert {path.name for path in links} == {"python", "unionfs", "mount.fuse.unionfs"}
    assert all(path.exists() and os.readlink(path).find("stage") < 0 for path in links)


def test_all_is_open_to_all(installed: Installed) -> None:
    closed = [
        path for path in (*installed.prefix.rglob("*"), *installed.sbin.rglob("*"))
        if not path.is_symlink() and path.stat().st_mode & 0o755 not in (0o755, 0o644)
    ]  # fmt: skip
    assert closed == []


def test_the_program_has_all_that_it_needs(installed: Installed, tmp_path: Path) -> None:
    """Every module of it can be imported, with no other place in the path than its own."""
    script = """
import importlib, pkgutil, sys, unionfs
from unionfs.fuse import native
for module in pkgutil.walk_packages(unionfs.__path__, "unionfs."):
    if module.name != "unionfs.__main__":
        importlib.import_module(module.name)
ours = sys.prefix + "/"
print([m.__file__ for n, m in sys.modules.items()
    if "site-packages" in str(getattr(m, "__file__", "")) and not m.__file__.startswith(ours)])
"""
    python = f"{installed.prefix}/lib/unionfs/bin/python"
    done = subprocess.run([python, "-I", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
    said = subprocess.run(
        [installed.command, "--version"], capture_output=True, text=True, cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": "/nonexistent", "PYTHONHOME": "/nonexistent"},
    )  # fmt: skip
    assert said.stdout.startswith("unionfs ") and said.stderr == ""


def test_an_ordinary_user_runs_it(installed: Installed, user: User) -> None:
    for name in ("l", "u", "w", "m"):
        done = user.run("mkdir", name)
        assert done.returncode == 0
    own = {"env": {"PYTHONPATH": ""}}
    mounted = user.run(
        installed.command, "-o", "lowerdir=l,upperdir=u,workdir=w", "m", **own
    )  # fmt: skip
    assert (mounted.returncode, mounted.stderr) == (0, "")
    try:
        kind = user.run("findmnt", "-n", "-o", "FSTYPE,SOURCE", user.home / "m").stdout.split()
        assert kind == ["fuse.unionfs", "unionfs"]
        assert user.run("touch", "m/new").returncode == 0
    finally:
        assert user.run("fusermount3", "-u", "m").returncode == 0
    assert os.listdir(user.home / "u") == ["new"]
    assert user.run(installed.command, "image", "ls", **own).stdout.startswith("NAME")


def test_the_client_asks_the_spawner(installed: Installed, tmp_path: Path) -> None:
    """By both names; without a spawner the program in Python does it, which is beside it."""
    programs = installed.prefix / "lib" / "unionfs" / "bin"
    assert (programs / "unionfs").read_bytes().startswith(b"\x7fELF")
    assert (programs / "unionfs-python").read_bytes().startswith(b"#!")
    for name in ("low", "up", "work", "merged"):
        (tmp_path / name).mkdir()
    socket = tmp_path / "serve"
    tmp_path.chmod(0o700)
    for resident in (False, True):
        made = Spawner(socket, [installed.command, "serve"]) if resident else None
        for program in (installed.command, installed.sbin / "mount.fuse.unionfs"):
            words = [program, "source", "merged", "-o", "lowerdir=low,upperdir=up,workdir=work"]
            subprocess.run(words, cwd=tmp_path, env=asking_at(socket), check=True, timeout=60)
            assert is_resident_s(daemon(tmp_path)) == resident
            subprocess.run(["umount", tmp_path / "merged"], check=True)
        if made is not None:
            made.end()


def test_mount8_and_fstab(installed: Installed, tmp_path: Path) -> None:
    """The helper is in /sbin, /etc/fstab has the line, and nothing else of ours is in the PATH."""
    for name in ("l", "u", "w", "m"):
        (tmp_path / name).mkdir()
    (tmp_path / "l" / "file").write_text("below")
    layers = f"lowerdir={tmp_path}/l,upperdir={tmp_path}/u,workdir={tmp_path}/w"
    (tmp_path / "fstab").write_text(f"overlay {tmp_path}/m fuse.unionfs {layers} 0 0\n")
    script = f"""
        set -e
        mount -t overlay overlay -o lowerdir={installed.sbin}:/usr/sbin /usr/sbin
        touch /etc/fstab
        mount --bind {tmp_path}/fstab /etc/fstab
        cd {tmp_path}
        mount -t fuse.unionfs overlay m -o {layers}
        findmnt -n -o FSTYPE,SOURCE m | tr -s ' '
        umount m
        mount -a
        cat m/file; echo; echo new > m/new
        findmnt -n -o FSTYPE,SOURCE m | tr -s ' '
        grep -c '^overlay {tmp_path}/m fuse.unionfs rw,' /proc/mounts
        mount -o remount,ro m
        ! touch m/x 2> refused
        mount -o remount,rw m
        touch m/x
        umount m
        ls m u
    """
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        capture_output=True, text=True, timeout=60, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    shown = "fuse.unionfs overlay"
    assert done.stdout.split("\n") == [
        shown, "below", shown, "1", "m:", "", "u:", "new", "x", ""
    ]  # fmt: skip
    assert "Read-only" in (tmp_path / "refused").read_text()


def test_where_a_system_looks(installed: Installed, tmp_path: Path) -> None:
    share = installed.prefix / "share"
    (tmp_path / "here").mkdir()
    environment = {"PATH": f"{installed.prefix}/bin:{os.environ['PATH']}", "HOME": str(tmp_path)}
    environment |= {"MANPATH": f"{share}/man", "XDG_DATA_DIRS": str(share), "MANWIDTH": "80"}

    def printed(*words: str) -> str:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    for page in (("1", "unionfs"), ("8", "mount.fuse.unionfs")):
        assert "union filesystem for containers" in printed("man", "-P", "cat", *page)
    assert printed("fish", "-c", "complete -C 'unionfs image wa'").startswith("waste\t")
    bash = share / "bash-completion" / "completions" / "unionfs"
    assert printed("bash", "-c", f"source {bash}; complete -p unionfs").strip().endswith("unionfs")
    printed("zsh", "-f", "-c", f"fpath=({share}/zsh/site-functions); autoload -Uz +X _unionfs")


def test_again_and_away(installed: Installed) -> None:
    """Uninstalling takes what was installed and leaves what it does not know."""
    for name in ("prefix", "sbin"):
        (installed.place / name).rename(Path(f"{installed.stage}{installed.place}", name))
    stranger = Path(f"{installed.stage}{installed.prefix}", "bin", "stranger")
    stranger.touch()
    installed.make("uninstall", *installed.words)
    assert [path for path in installed.stage.rglob("*") if not path.is_dir()] == [stranger]
    installed.make("uninstall", *installed.words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("PREFIX=usr",), "PREFIX is no absolute path: usr"),
        (("PREFIX=/a b",), "PREFIX has white space in it"),
        (("SBINDIR=sbin",), "SBINDIR is no absolute path: sbin"),
    ],
)
def test_where_it_cannot_go(installed: Installed, words: tuple[str, ...], told: str) -> None:
    done = installed.make("install", f"DESTDIR={installed.stage}", *words, status=2)
    assert f"install: error: {told}" in done.stderr


def test_what_is_not_ours_stays(installed: Installed, tmp_path: Path) -> None:
    for name in ("lib/unionfs", "bin"):
        (tmp_path / name).mkdir(parents=True)
    words = (f"PREFIX={tmp_path}", "SBINDIR=")
    for verb in ("install", "uninstall"):
        done = installed.make(verb, *words, status=2)
        assert "lib/unionfs exists and is no installation of unionfs" in done.stderr
    (tmp_path / "lib" / "unionfs").rmdir()
    (tmp_path / "bin" / "unionfs").write_text("another's")
    done = installed.make("install", *words, status=2)
    assert "bin/unionfs exists and is no link to unionfs" in done.stderr
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["bin", "lib", "unionfs"]


def test_a_python_in_a_home_is_passed_over(tmp_path: Path, monkeypatch) -> None:
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    (closed / "python").symlink_to(os.path.realpath("/usr/bin/env"))
    (closed / "python3").write_text("#!/bin/sh\n")
    monkeypatch.setattr("sys.executable", str(closed / "python3"))
    assert not environment.reachable_python().startswith(str(tmp_path))
    monkeypatch.setattr(environment, "_VERSION", "python9.9")
    with pytest.raises(environment.InstallError, match=r"no other python9\.9 in /usr/bin"):
        environment.reachable_python()
