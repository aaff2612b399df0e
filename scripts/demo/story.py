"""The demo's chapters, from an image to its containers' end."""

from __future__ import annotations

import hashlib
import os
import shlex

from scripts.demo.narrate import Narrator, RefusedError, SurpriseError
from scripts.demo.work import Container, Trace, do_all

IMAGE = "demo"


def tell(narrator: Narrator, root: str, source: str, *, given: bool) -> None:
    """Tell the whole story with the image *source* and the store *root*.

    Raises RefusedError when *source*, *given* by the user, is not taken, else SurpriseError.
    """
    try:
        _import(narrator, root, source)
    except SurpriseError:
        if not given:
            raise
        raise RefusedError(f"there is nothing to show: {source} could not be imported") from None
    before = _fingerprint(root)
    left, right = _two_containers(narrator, root)
    narrator.chapter("Work in one of them")
    narrator.say(
        """`unionfs run` starts a program in a container, with the container's tree as its root
        directory."""
    )
    traces = do_all(narrator, left)
    _the_other_is_untouched(narrator, left, right, traces)
    _what_changed(narrator)
    _image_is_protected(narrator)
    _throw_away(narrator, root, traces)
    narrator.expect(_fingerprint(root) == before, "a layer of the image changed")
    narrator.say(
        """Every file of every layer still has the inode, size, mode and change time that it had
        after the import: in all this, nothing was written to the image."""
    )
    narrator.run("unionfs", "image", "rm", IMAGE)


def _import(narrator: Narrator, root: str, source: str) -> None:
    narrator.chapter("Import an image")
    narrator.say(
        f"""unionfs keeps all it has in one directory. This demo uses one of its own, and deletes
        it at the end: UNIONFS_ROOT={root}"""
    )
    narrator.run("unionfs", "image", "import", source, "--name", IMAGE, live=True)
    narrator.say("Digests and sizes are verified on the way in. This is what is there now:")
    narrator.run("unionfs", "image", "ls")
    narrator.run("unionfs", "layer", "ls")
    narrator.say(
        """Each layer is a plain directory, stored once however many images share it, and never
        written to again."""
    )


def _two_containers(narrator: Narrator, root: str) -> tuple[Container, Container]:
    narrator.chapter("Make two containers, and mount both")
    narrator.say("A container is an empty directory on top of the layers. Nothing is copied.")
    for name in ("left", "right"):
        narrator.run("unionfs", "create", IMAGE, "--name", name)
    left, right = _mount(narrator, root, "left"), _mount(narrator, root, "right")
    narrator.say("Each is now a whole root filesystem, there for any program:")
    narrator.run("ls", "-C", "-w", "80", left.mount_point)
    narrator.run("unionfs", "ls")
    return left, right


def _mount(narrator: Narrator, root: str, name: str) -> Container:
    place = os.path.join(os.path.dirname(root), name)
    os.mkdir(place)
    narrator.run("unionfs", "mount", name, place)
    return Container(name, place)


def _the_other_is_untouched(
    narrator: Narrator, left: Container, right: Container, traces: list[Trace]
) -> None:
    narrator.chapter("The other container sees none of it")
    print()
    for trace in traces:
        path = shlex.quote(f"/{trace.path}")
        narrator.expect(left.has(trace.path) == trace.is_there, f"{path} is not as left made it")
        narrator.expect(right.has(trace.path) != trace.is_there, f"right sees left's {path}")
        here, there = ("is there", "is not") if trace.is_there else ("is gone", "is still there")
        print(f"    {path}: in left it {here}, in right it {there}")
    narrator.say("It has no changes at all, so its list of them is empty:")
    said = narrator.run("unionfs", "diff", "right")
    narrator.expect(said == "", "right has changes")


def _what_changed(narrator: Narrator) -> None:
    narrator.chapter("What changed, and what it takes")
    narrator.say("A is added, C changed, D deleted, as in `docker diff`:")
    said = narrator.run("unionfs", "diff", "left", lines=12)
    narrator.expect(said != "", "left has no changes")
    narrator.say("The image's layers are shared by both; each container's own changes are its own:")
    narrator.run("unionfs", "df")


def _image_is_protected(narrator: Narrator) -> None:
    narrator.chapter("An image in use cannot be removed")
    narrator.run("unionfs", "image", "rm", IMAGE, status=1, says="used by containers left, right")
    narrator.say("It says which containers use it, and does nothing.")


def _throw_away(narrator: Narrator, root: str, traces: list[Trace]) -> None:
    narrator.chapter("Throw the containers away")
    for name in ("left", "right"):
        narrator.run("unionfs", "umount", name)
    narrator.run("unionfs", "rm", "left", "right")
    narrator.run("unionfs", "ls")
    left_over = os.listdir(os.path.join(root, "containers"))
    narrator.expect(not left_over, f"removed containers left {left_over} behind")
    narrator.say("What was written in them is gone. A new container starts from the image again:")
    narrator.run("unionfs", "create", IMAGE, "--name", "afresh")
    afresh = _mount(narrator, root, "afresh")
    for trace in traces:
        what = "came back" if trace.is_there else "is missing"
        narrator.expect(afresh.has(trace.path) != trace.is_there, f"/{trace.path} {what}")
    narrator.run("unionfs", "diff", "afresh")
    narrator.run("unionfs", "rm", "--force", "afresh")


def _fingerprint(root: str) -> str:
    """Digest what would change if anything wrote to a stored layer."""
    digest = hashlib.sha256()
    for here, directories, files in os.walk(os.path.join(root, "layers")):
        directories.sort()
        for name in sorted(files) + directories:
            status = os.lstat(os.path.join(here, name))
            facts = (status.st_ino, status.st_mode, status.st_size, status.st_ctime_ns)
            digest.update(os.fsencode(f"{here}/{name} {facts}\n"))
    return digest.hexdigest()
