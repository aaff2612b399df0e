"""``unionfs image verify``: layers against what was imported."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.context import Context, ending_cleanly
from unionfs.cli.tree import Branch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unionfs.digest import Digest
    from unionfs.image.verify import Fault
    from unionfs.store.store import Store


def register(images: Branch) -> None:
    """Add the command to those of images."""
    parser = images.command(
        "verify",
        ending_cleanly(_verify),
        "compare layers with what was imported; the exit status is 1 if one differs",
    )
    parser.add_argument(
        "image", metavar="IMAGE", nargs="?", help="whose layers (default: all that are stored)"
    )


def _verify(context: Context) -> int:
    layers = 0
    differences: list[dict[str, Any]] = []
    if context.args.image is not None or context.has_store():
        with context.store() as store:
            wanted = _layers(store, context.args.image)
            layers = len(wanted)
            differences = _compare(context, store, wanted)
    if context.json:
        output.print_json({"layers": layers, "differences": differences})
    elif not differences:
        print(f"{output.counted(layers, 'layer')} as imported")
    return 1 if differences else 0


def _layers(store: Store, text: str | None) -> Sequence[Digest]:
    """Return the layers to look at, each once."""
    if text is None:
        return [layer.diff_id for layer in store.layers.list()]
    return list(dict.fromkeys(store.images.resolve(text).diff_ids))


def _compare(context: Context, store: Store, layers: Sequence[Digest]) -> list[dict[str, Any]]:
    """Return what differs; print it at once if that is wanted."""
    from unionfs.cli.progress import import_progress
    from unionfs.image.verify import verify_layer

    found = []
    with (
        store.lease(layers),
        import_progress(quiet=context.quiet, done="looked at") as progress,
    ):
        for diff_id in layers:
            progress.layer_started(diff_id, store.layers.get(diff_id).tar_size)
            for fault in verify_layer(store, diff_id, partial(progress.advanced, diff_id)):
                found.append(_document(diff_id, fault))
                if not context.json:
                    print(output.shown(_line(diff_id, fault)), flush=True)
            progress.layer_done(diff_id, stored_before=False)
    return found


def _line(diff_id: Digest, fault: Fault) -> str:
    where = "" if fault.path is None else f" {output.text_of(fault.path)}:"
    return f"layer {diff_id}:{where} {fault.says}"


def _document(diff_id: Digest, fault: Fault) -> dict[str, Any]:
    return {
        "layer": str(diff_id),
        "path": None if fault.path is None else output.text_of(fault.path),
        "says": fault.says,
    }
