"""mount(8), umount(8) and findmnt(8) with type fuse.unionfs: typed, from an fstab, remounted.

Each script runs in a mount namespace of its own. There is `mount.fuse.unionfs`, or only `unionfs`
itself, which mount.fuse3 finds.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.cli.test_helper_mount import program

pytestmark = [pytest.mark.needs_fuse, pytest.mark.needs_root, pytest.mark.needs_kernel_overlay]


@pytest.fixture
def place(tmp_path):
    for name in ("l", "u", "w", "m", "bin", "plain", "spaced one"):
        (tmp_path / name).mkdir()
    (tmp_path / "l" / "file").write_text("below")
    program(tmp_path / "bin", "mount.fuse.unionfs")
    program(tmp_path / "plain", "unionfs")
    return tmp_path


@pytest.fixture(params=["bin", "plain"], ids=["own helper", "mount.fuse3"])
def script(request, place):
    """Run a script of sh(1), where what is in a directory of ours is in /usr/sbin as well."""
    over = f"mount -t overlay overlay -o lowerdir={place}/{request.param}:/usr/sbin /usr/sbin\n"

    def run(text):
        whole = f"set -e\ncd {place}\n{over}{text}"
        done = subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", whole],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done

    return run


def test_mounted_shown_and_unmounted(script):
    done = script("""
        mount -t fuse.unionfs overlay m -o lowerdir=l,upperdir=u,workdir=w
        cat m/file; echo; echo new > m/new
        findmnt -n -o FSTYPE,SOURCE m | tr -s ' '
        grep -c '^overlay .*/m fuse.unionfs rw,' /proc/mounts
        umount m
        cat u/new; ls m
    """)
    assert done.stdout.splitlines() == ["below", "fuse.unionfs overlay", "1", "new"]
    assert done.stderr == ""


def test_from_an_fstab(script, place):
    layers = f"lowerdir={place}/l,upperdir={place}/u,workdir={place}/w"
    (place / "fstab").write_text(
        f"overlay {place}/m fuse.unionfs {layers} 0 0\n"
        f"second {place}/spaced\\040one fuse.unionfs lowerdir={place}/l,ro,nofail,x-a.b=c 0 0\n"
        f"not {place}/nowhere fuse.unionfs noauto,lowerdir={place}/l 0 0\n"
    )
    done = script("""
        mount -T fstab -a
        echo new > m/new
        ! touch 'spaced one/new' 2> /dev/null
        findmnt -n -o SOURCE 'spaced one'
        mount -T fstab -o remount,ro m
        ! touch m/new 2> /dev/null
        mount -T fstab -o remount,rw m
        touch m/new
        umount m 'spaced one'
    """)
    assert (done.stdout, done.stderr) == ("second\n", "")
    assert os.listdir(place / "u") == ["new"]


def test_remounted(script, place):
    """Read-only once nobody has a file open for writing; and writable again."""
    done = script("""
        mount -t fuse.unionfs overlay m -o lowerdir=l,upperdir=u,workdir=w
        echo one > m/new
        exec 5>> m/new
        mount -o remount,ro m 2> busy && echo not busy
        exec 5>&-
        mount -o remount,ro m
        findmnt -n -o FS-OPTIONS m
        for what in 'touch m/x' 'rm m/file' 'chmod 1 m/file' 'mkdir m/d'; do
            ! $what 2>> errors
        done
        cat m/file; echo
        mount -o remount,rw,noexec m
        findmnt -n -o VFS-OPTIONS m
        echo two >> m/new; rm m/file; mkdir m/d
        ls m; cat m/new
        umount m
    """)
    assert "busy" not in done.stdout and "busy" in (place / "busy").read_text()
    assert (place / "errors").read_text().count("Read-only file system") == 4
    shown, below, flags, *rest = done.stdout.split()
    assert shown.startswith("ro,") and below == "below"
    assert flags.startswith("rw,") and "noexec" in flags.split(",")
    assert rest == ["d", "new", "one", "two"]


LAYERS = "-t fuse.unionfs overlay m -o lowerdir=l,upperdir=u,workdir=w"


def test_read_only_and_writable_by_a_flag(script):
    done = script(f"""
        mount -r {LAYERS}
        ! touch m/new 2> /dev/null
        findmnt -n -o OPTIONS m
        umount m
        mount -w -n {LAYERS}
        touch m/new
        findmnt -n -o OPTIONS m
        umount m
    """)
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == ["ro", "rw"]


def test_user_brings_what_mount_adds_to_it(script):
    """Nothing is said of ``user`` itself, a word for mount(8) alone."""
    done = script(f"mount {LAYERS},user; findmnt -n -o VFS-OPTIONS m; umount m")
    assert {"nosuid", "nodev", "noexec"} <= set(done.stdout.strip().split(","))
    assert done.stderr == ""


@pytest.mark.parametrize("script", ["bin"], indirect=True)
def test_flags_that_mount_fuse3_keeps_to_itself(script):
    """Fake mounts nothing, but finds what is wrong; sloppy and verbose are what is said."""
    done = script(f"""
        mount -f {LAYERS}
        mount -f -t fuse.unionfs overlay m -o upperdir=u 2> /dev/null && echo not seen
        findmnt -n m && echo mounted
        mount {LAYERS},unheard-of
        umount m
        mount -s -v {LAYERS},unheard-of
        umount m
        mount -N /proc/self/ns/mnt {LAYERS} && echo in another
        :
    """)
    assert done.stdout == ""
    ignored, verbose, refused = done.stderr.splitlines()
    assert ignored == "unknown argument ignored: unheard-of"
    assert verbose.startswith("unionfs: mounting on /")
    assert "mounting in another namespace is not supported" in refused


@pytest.mark.parametrize(
    ("mounted", "asked", "told"),
    [
        ("lowerdir=l", "rw", "has no upper directory to write to"),
        ("lowerdir=l,upperdir=u,workdir=w,ro", "rw", "has no upper directory to write to"),
        ("lowerdir=l,upperdir=u,workdir=w", "lowerdir=u", "remount cannot change lowerdir"),
    ],
)
def test_what_a_remount_cannot_do_is_refused(script, mounted, asked, told):
    done = script(f"""
        mount -t fuse.unionfs overlay m -o {mounted}
        before=$(findmnt -n -o OPTIONS m)
        ! mount -o remount,{asked} m
        test "$before" = "$(findmnt -n -o OPTIONS m)"
        umount m
    """)
    assert told in done.stderr


def test_what_is_no_mount_of_ours(script):
    done = script("! mount -t fuse.unionfs -o remount,ro overlay m")
    assert done.stderr
