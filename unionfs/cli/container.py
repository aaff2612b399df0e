"""Containers as things: create, ls, inspect, diff, rm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.context import Context, find_container, note
from unionfs.cli.tree import Branch
from unionfs.errors import UnionfsError, os_error_line

if TYPE_CHECKING:
    from unionfs.container.state import MountState
    from unionfs.store.records import ContainerRecord
    from unionfs.store.store import Store

_HEADERS = ("CONTAINER ID", "IMAGE", "CREATED", "STATUS", "NAME", "MOUNT POINT")


def register(commands: Branch) -> None:
    """Add the commands of this noun."""
    create = commands.command("create", _create, "make a container of an image and print its ID")
    create.add_argument("image", metavar="IMAGE")
    create.add_argument("--name", help="what to call it (default: two friendly words)")
    commands.command("ls", _ls, "list containers", aliases=("ps",))
    inspect = commands.command("inspect", _inspect, "show all that is known about a container")
    inspect.add_argument("container", metavar="CONTAINER")
    diff = commands.command(
        "diff", _diff, "list what a container added (A), changed (C) and deleted (D)"
    )
    diff.add_argument("container", metavar="CONTAINER")
    rm = commands.command("rm", _rm, "remove containers and all that was changed in them")
    rm.add_argument("containers", metavar="CONTAINER", nargs="+")
    rm.add_argument("-f", "--force", action="store_true", help="unmount them first")


def _create(context: Context) -> int:
    with context.store() as store:
        image = store.images.resolve(context.args.image)
        container = store.containers.create(image, context.args.name)
    if context.json:
        output.print_json({"id": container.id, "name": container.name})
    else:
        print(container.id)
    return 0


def _ls(context: Context) -> int:
    from unionfs.container.state import read_state

    documents: list[dict[str, Any]] = []
    if context.has_store():
        with context.store() as store:
            state = read_state()
            documents = [_document(store, one, state) for one in store.containers.list()]
    if context.json:
        output.print_json(documents)
    elif context.quiet:
        print(*(one["id"][:12] for one in documents), sep="\n", end="\n" if documents else "")
    else:
        output.print_table(_HEADERS, [_row(one) for one in documents])
    return 0


def _row(document: dict[str, Any]) -> Sequence[str]:
    return (
        document["id"][:12],
        document["image"],
        output.age(document["created"]),
        _status_words(document),
        document["name"],
        ", ".join(mount["target"] for mount in document["mounts"]),
    )


def _document(store: Store, container: ContainerRecord, state: MountState) -> dict[str, Any]:
    """Return what ``ls`` and ``inspect`` both tell about *container*."""
    from unionfs.container.locks import is_running
    from unionfs.daemon import client

    image = store.images.get(container.image_id)
    mounts = [
        {
            "target": output.text_of(mounted.target),
            "read_only": mounted.read_only,
            "dead": client.stale(mounted.target),
        }
        for mounted in state.of_container(container.id)
    ]
    return {
        "id": container.id,
        "name": container.name,
        "image": output.image_label(image.names, image.id.short),
        "image_id": str(image.id),
        "created": container.created,
        "status": _status(mounts, is_running(store, container)),
        "mounts": mounts,
    }


def _status(mounts: Sequence[dict[str, Any]], running: bool) -> str:
    if running:
        return "running"
    if not mounts:
        return "created"
    return "dead mount" if any(mount["dead"] for mount in mounts) else "mounted"


def _status_words(document: dict[str, Any]) -> str:
    read_only = any(mount["read_only"] for mount in document["mounts"])
    return f"{document['status']}{', read-only' if read_only else ''}"


def _inspect(context: Context) -> int:
    from unionfs.container.state import read_state

    with context.store() as store:
        container = find_container(store, context.args.container, "unionfs image inspect {}")
        document = _document(store, container, read_state()) | _directories(store, container)
        config = store.images.get(container.image_id).run_config
    if context.json:
        output.print_json(document | {"config": config})
        return 0
    output.print_fields(
        {
            "ID": container.id,
            "Name": container.name,
            "Image": f"{document['image']} ({document['image_id']})",
            "Created": f"{container.created} ({output.age(container.created)})",
            "Status": document["status"],
            "Mount point": [_mount_line(mount) for mount in document["mounts"]],
            "Upper": document["upper"],
            "Work": document["work"],
            "Log": document["log"],
            "Lower": document["lowers"],
            **output.config_fields(config),
        }
    )
    return 0


def _directories(store: Store, container: ContainerRecord) -> dict[str, Any]:
    home = store.containers.path(container.id)
    return {
        "lowers": list(store.images.stack(container.image_id)),
        **{name: f"{home}/{name}" for name in ("upper", "work", "merged", "log")},
    }


def _mount_line(mount: dict[str, Any]) -> str:
    words = [word for word in ("read_only", "dead") if mount[word]]
    return f"{mount['target']} ({', '.join(words)})" if words else mount["target"]


def _diff(context: Context) -> int:
    from unionfs.container.diff import diff

    with context.store() as store:
        found = diff(store, find_container(store, context.args.container, "unionfs create {}"))
        if context.json:
            output.print_json(
                [{"kind": one.kind, "path": output.text_of(one.path)} for one in found]
            )
        else:
            for one in found:
                print(one.kind, output.plain(one.path))
    return 0


def _rm(context: Context) -> int:
    from unionfs.container.remove import remove

    removed = []
    status = 0
    with context.store() as store:
        for text in context.args.containers:
            try:
                container = find_container(store, text, "unionfs image rm {}")
                remove(store, container, force=context.args.force, note=note)
            except (UnionfsError, OSError) as error:
                line = os_error_line(error) if isinstance(error, OSError) else str(error)
                note(f"error: {line}")
                status = 1
            else:
                removed.append(container.id)
                if not context.json:
                    print(text)
    if context.json:
        output.print_json(removed)
    return status
