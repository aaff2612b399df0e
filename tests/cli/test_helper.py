"""The mount-helper form: which calls are one, what their words mean, what is said and returned."""

import os
import re
import subprocess
import sys

import pytest

import unionfs
from unionfs.cli import helper, main
from unionfs.daemon import spawn
from unionfs.errors import ConflictError

LOWER = "lowerdir=/l"


@pytest.fixture
def mounts(monkeypatch):
    """The mounts that were asked for, as (config, target, how), instead of being made."""
    asked = []

    def start(config, target, **how):
        asked.append((config, target, how))

    monkeypatch.setattr(spawn, "start", start)
    monkeypatch.setattr(spawn, "run_foreground", start)
    return asked


def call(*words):
    return main.main(list(words))


class TestForm:
    @pytest.mark.parametrize(
        "words",
        [
            ["-o", LOWER, "/m"],
            [f"-o{LOWER}", "/m"],
            ["/m", "-o", LOWER],
            ["overlay", "/m", "-o", LOWER],
            ["-f", "-o", LOWER, "/m"],
            ["overlay", "/m"],
            ["-o", LOWER, "mount"],
        ],
    )
    def test_helper(self, words):
        assert main.is_helper_form(["/usr/bin/unionfs", *words])

    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["mount", "web", "-o", "ro"],
            ["--root", "/r", "mount", "web", "-o", "ro"],
            ["--root=/r", "-v", "--json", "mount", "web", "-oro"],
            ["image", "ls"],
            ["-vv", "image", "ls"],
            ["nonsense"],
            ["--help"],
        ],
    )
    def test_commands(self, words):
        assert not main.is_helper_form(["unionfs", *words])

    @pytest.mark.parametrize("name", ["mount.unionfs", "/sbin/mount.fuse.unionfs"])
    def test_names_of_mount(self, name):
        assert main.is_helper_form([name, "overlay", "/m"])


class TestWords:
    @pytest.mark.parametrize(
        "words",
        [
            ["-o", LOWER, "/m"],
            [f"-o{LOWER}", "/m"],
            ["/m", "-o", LOWER],
            ["-s", "-o", LOWER, "--", "/m"],
        ],
    )
    def test_mounts(self, mounts, words):
        assert call("unionfs", *words) == 0
        ((config, target, how),) = mounts
        assert (config.lowerdirs, target) == ((b"/l",), b"/m")
        assert how == {"log": None, "allow_nonempty": True}

    def test_source_is_shown_in_the_mount_table(self, mounts):
        call("unionfs", "overlay", "/m", "-o", LOWER)
        call("unionfs", "overlay", "/m", "-o", f"{LOWER},fsname=x")
        call("unionfs", "/m", "-o", LOWER)
        assert [config.fsname for config, *_ in mounts] == ["overlay", "x", "unionfs"]

    def test_the_last_word_is_the_mount_point(self, mounts):
        call("unionfs", "a", "b", "/m", "-o", LOWER)
        assert mounts[0][1] == b"/m"

    def test_several_option_words(self, mounts):
        call("unionfs", "-o", LOWER, "-oro", "/m", "-o", "upperdir=/u,workdir=/w")
        config = mounts[0][0]
        assert config.read_only and (config.upperdir, config.workdir) == (b"/u", b"/w")

    @pytest.mark.parametrize(
        ("flags", "debug"),
        [(["-f"], False), (["-d"], True), (["--debug"], True), (["-o", "debug"], True)],
    )
    def test_foreground(self, mounts, flags, debug):
        assert call("unionfs", *flags, "-o", LOWER, "/m") == 0
        assert mounts[0][2] == {"debug": debug, "allow_nonempty": True}

    def test_names_that_are_not_text(self, mounts):
        call("unionfs", "-o", "lowerdir=/l\udcff", "/m\udcfe")
        assert mounts[0][0].lowerdirs == (b"/l\xff",) and mounts[0][1] == b"/m\xfe"

    def test_ignored_options_are_named(self, mounts, capsys):
        assert call("unionfs", "-o", f"{LOWER},private,timeout=3", "/m") == 0
        assert capsys.readouterr().err.splitlines() == [
            "unknown argument ignored: private",
            "unknown argument ignored: timeout=3",
        ]

    def test_root_has_fuse_overlayfs_defaults(self, mounts, monkeypatch):
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        call("unionfs", "-o", LOWER, "/m")
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        call("unionfs", "-o", LOWER, "/m")
        assert [config.allow_other for config, *_ in mounts] == [True, False]


class TestAsMount:
    def test_flags_of_mount(self, mounts, capsys):
        words = ["overlay", "/m", "-snv", "-t", "fuse.unionfs", "-o", f"{LOWER},odd"]
        assert call("mount.fuse.unionfs", *words) == 0
        assert mounts[0][0].fsname == "overlay" and "log" in mounts[0][2]
        assert capsys.readouterr().err == "unionfs: mounting on /m\n"

    def test_fake_checks_and_mounts_nothing(self, mounts, capsys):
        assert call("mount.unionfs", "o", "/m", "-f", "-o", LOWER) == 0
        assert call("mount.unionfs", "o", "/m", "-f", "-o", "upperdir=/u") == 2
        assert not mounts and "lowerdir" in capsys.readouterr().err

    def test_namespaces_are_refused(self, mounts, capsys):
        assert call("mount.unionfs", "o", "/m", "-N", "/proc/1/ns/mnt", "-o", LOWER) == 1
        assert "-N /proc/1/ns/mnt: mounting in another namespace" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["mount.unionfs", "unionfs"])
    def test_remount_mounts_nothing(self, mounts, capsys, name):
        assert call(name, "o", "/nothing-here", "-o", f"remount,ro,{LOWER}") == 1
        assert "/nothing-here is not a mount of unionfs" in capsys.readouterr().err and not mounts

    def test_remount_needs_a_mount_point(self, capsys):
        assert call("mount.unionfs", "-o", "remount,ro") == 2
        assert "no mount point" in capsys.readouterr().err

    def test_roots_mounts_have_set_id_programs_and_devices(self, mounts, monkeypatch):
        """As mount(8) has it by default, and as mount.fuse3 asks of a mount program."""
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        call("mount.unionfs", "o", "/m", "-o", LOWER)
        call("mount.unionfs", "o", "/m", "-o", f"{LOWER},nodev")
        call("unionfs", "o", "/m", "-o", LOWER)
        flags = [(config.suid, config.dev) for config, *_ in mounts]
        assert flags == [(True, True), (True, False), (True, False)]


class TestErrors:
    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["-o", LOWER], "no mount point"),
            (["-o", f"{LOWER},upperdir=/u", "/m"], "upperdir is given without workdir"),
            (["-o", "ro", "/m"], "no lower directories"),
            (["moutn", "web"], "no such command: moutn"),
            (["/m", "-o"], "-o needs a value"),
            (["-x", "-o", LOWER, "/m"], "unknown option -x"),
            (["--frob", "-o", LOWER, "/m"], "unknown option --frob"),
        ],
    )
    def test_usage(self, mounts, capsys, words, told):
        assert call("unionfs", *words) == 2
        said = capsys.readouterr().err
        assert said.startswith("unionfs: error: ") and told in said and said.count("\n") == 1
        assert not mounts

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (ConflictError("busy\nthing"), "busy thing"),
            (FileNotFoundError(2, "No such file or directory", b"/l"), "/l: No such file"),
            (ValueError("odd"), "internal error: ValueError: odd (-vv shows where)"),
        ],
    )
    def test_any_failure_is_one_line(self, monkeypatch, capsys, error, told):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(spawn, "start", fail)
        assert call("unionfs", "-o", LOWER, "/m") == 1
        said = capsys.readouterr().err
        assert said.startswith(f"unionfs: error: {told}") and said.count("\n") == 1
        assert call("unionfs", "-vv", "-o", LOWER, "/m") == 1
        assert "Traceback" in capsys.readouterr().err

    def test_interrupted(self, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(spawn, "start", interrupt)
        assert call("unionfs", "-o", LOWER, "/m") == 130

    def test_closed_pipe_is_quiet(self):
        reading, writing = os.pipe()
        os.close(reading)
        words = [sys.executable, "-m", "unionfs", "--version"]
        done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b"")


class TestAnswers:
    @pytest.mark.parametrize("word", ["--version", "-V"])
    def test_version(self, capsys, word):
        assert call("unionfs", word) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == f"unionfs {unionfs.__version__}"
        assert re.fullmatch(r"FUSE library (version 3\.[\d.]+|not found)", second)

    def test_version_without_library(self, monkeypatch):
        monkeypatch.setattr("unionfs.syscalls.libfuse._NAMES", ("libnosuch.so.9",))
        assert helper.version().endswith("FUSE library not found\n")

    @pytest.mark.parametrize("name", ["mount.unionfs", "unionfs"])
    def test_help(self, capsys, name):
        assert call(name, "-h", "-o", LOWER) == 0
        assert capsys.readouterr().out == helper.USAGE


def test_little_is_imported_before_the_fork():
    """Everything here is paid in every mount's time; what the daemon needs as well is not."""
    script = (
        "import sys\n"
        "from unionfs.cli import main\n"
        "from unionfs.daemon import spawn\n"
        "def start(*a, **k): print(' '.join(sys.modules))\n"
        "spawn.start = start\n"
        f"main.main(['unionfs', '-o', '{LOWER}', '/m'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    heavy = {"trio", "pyfuse3", "argparse", "rich", "sqlite3", "subprocess", "asyncio", "json"}
    loaded = set(done.stdout.split())
    assert "unionfs.options" in loaded and not loaded & (heavy | {"unionfs.store", "ctypes"})
