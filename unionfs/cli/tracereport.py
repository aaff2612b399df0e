"""``unionfs trace report``: what a recording says was really read of an image, and changed."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from unionfs.cli import output
from unionfs.cli.context import Context

if TYPE_CHECKING:
    from unionfs.inspect.reads import Changed, Reads, Used
    from unionfs.inspect.recording import End, Header
    from unionfs.inspect.stack import LayerName, Source
    from unionfs.inspect.touched import Holding, Share

_SOME = 1000  # requests that are printed at once
_ROWS = 20  # of files in a table; --json has all
_COMMAND = 48
_WIDTH = 80
_LAYERS = ("LAYER", "FILES", "SEEN", "READ", "SHARE", "SIZE", "READ", "SHARE", "IN ALL")
_READ = ("READ", "IN ALL", "SIZE", "LAYER", "PATH")
_CHANGED = ("WHAT", "WROTE", "WAS IN", "PATH")


@dataclass(frozen=True, slots=True)
class _Layer:
    """A layer and what was read of it; ``why``: it could not be looked at here."""

    name: LayerName
    share: Share
    used: Sequence[Used]
    is_upper: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class _Found:
    """What the recording *name* says, the *layers* topmost first."""

    name: str
    header: Header
    end: End | None
    seconds: float
    reads: Reads
    layers: Sequence[_Layer]

    @property
    def whole(self) -> Share:
        """What was read of all layers but the upper, which is no part of an image."""
        from unionfs.inspect.touched import Holding, Share

        return sum((one.share for one in self.layers if not one.is_upper), Share(Holding()))


def report(context: Context, name: str) -> int:
    """Print what the recording in the file *name* says; return the exit status.

    Raises BadRecordingError, OSError.
    """
    from unionfs.inspect.reads import Reads
    from unionfs.inspect.recording import Recording

    reads = Reads()
    with open(name, "rb") as file:
        recording = Recording(file, name)
        begun = last = recording.header.begun_ns
        for event in recording.events():
            reads.add(event)
            last = max(last, event.start_ns)
    if recording.end is not None:
        last = recording.end.ended_ns
    layers = _layers(recording.header.source, reads)
    seconds = max(last - begun, 0) / 1e9
    found = _Found(name, recording.header, recording.end, seconds, reads, layers)
    if context.json:
        output.print_json(_document(found))
    else:
        _show(found)
    return 0


def requests(context: Context, name: str) -> int:
    """Print the requests in the recording *name* one by one; return the exit status.

    Raises BadRecordingError, OSError.
    """
    from unionfs.cli.tracesinks import Documents, Lines
    from unionfs.inspect.recording import Recording

    sink = Documents() if context.json else Lines()
    with open(name, "rb") as file:
        events = Recording(file, name).events()
        while some := list(islice(events, _SOME)):
            sink.show(some)
    return 0


def _layers(source: Source, reads: Reads) -> Sequence[_Layer]:
    from unionfs.errors import UnionfsError, os_error_line
    from unionfs.inspect.touched import called_in_events, holding, share, used_by_layer

    found, by_layer = [], used_by_layer(reads)
    for place, layer in enumerate(source.layers):
        used = by_layer.get(called_in_events(layer), ())
        held: Holding | None = None
        is_upper, why = source.upper and place == 0, ""
        if not is_upper:
            try:
                held = holding(source, layer, {one.path for one in used})
            except UnionfsError as error:
                why = str(error)
            except OSError as error:
                why = os_error_line(error)
        found.append(_Layer(layer, share(held, used), used, is_upper, why))
    return found


def _document(found: _Found) -> dict[str, Any]:
    header, reads, whole = found.header, found.reads, found.whole
    return {
        "file": found.name,
        "target": output.text_of(header.target),
        "subject": header.source.subject,
        "image": header.image,
        "begun_ns": header.begun_ns,
        "seconds": round(found.seconds, 3),
        "requests": reads.count,
        "complete": found.end is not None,
        "lost": None if found.end is None else found.end.lost,
        "not_seen": list(header.unseen),
        "only": list(header.chosen),
        "together": _share_document(whole),
        "layers": [_layer_document(one) for one in found.layers],
        "changed": [_changed_document(one) for one in _changed(reads)],
    }


def _share_document(share: Share) -> dict[str, Any]:
    held = share.held
    return {
        "has": None if held is None else {"files": held.files, "bytes": held.size},
        "seen": None if held is None else {"files": share.seen},
        "read": {"files": share.files, "bytes": share.once, "bytes_in_all": share.in_all},
    }


def _layer_document(one: _Layer) -> dict[str, Any]:
    name = one.name
    return {
        "layer": name.label,
        "number": name.number,
        "diff_id": name.digest,
        "command": name.command,
        "path": output.text_of(name.path),
        "not_measured": one.why or None,
        **_share_document(one.share),
        "paths": [_used_document(used, one.share.held) for used in _by_bytes(one.used)],
    }


def _used_document(one: Used, held: Holding | None) -> dict[str, Any]:
    return {
        "path": output.text_of(one.path),
        "size": None if held is None else held.sizes.get(one.path),
        "opens": one.opens,
        "reads": one.reads,
        "bytes": one.ranges.bytes,
        "bytes_in_all": one.in_all,
    }


def _changed_document(one: Changed) -> dict[str, Any]:
    return {
        "path": output.text_of(one.path),
        "what": list(one.acts),
        "other": output.text_of(one.other) or None,
        "bytes_written": one.wrote,
        "layer": one.layer or None,
    }


def _by_bytes(used: Iterable[Used]) -> list[Used]:
    return sorted(used, key=lambda one: (-one.ranges.bytes, -one.in_all, one.path))


def _changed(reads: Reads) -> list[Changed]:
    return sorted(reads.changed.values(), key=lambda one: (-one.wrote, one.path))


def _show(found: _Found) -> None:
    header = found.header
    when = output.clock(header.begun_ns)
    requests = output.counted(found.reads.count, "request")
    print(f"{output.shown(header.source.subject)}, {when}: {requests} in {found.seconds:.1f} s")
    if header.image is not None:
        print(f"image {output.shown(header.image)}")
    for doubt in _doubts(found):
        print(textwrap.fill(doubt, _WIDTH, initial_indent="! ", subsequent_indent="  "))
    print()
    print(_in_a_sentence(found.whole))
    print()
    output.print_table(_LAYERS, [_layer_row(one.name.label, one.share) for one in found.layers])
    _show_untouched(found)
    _show_files(found)
    _show_changed(found)


def _doubts(found: _Found) -> Iterator[str]:
    """Yield why the figures may not be all."""
    if found.header.chosen:
        chosen = output.shown(" ".join(found.header.chosen))
        yield f"recorded with {chosen}: nothing else is counted"
    if found.header.unseen:
        unseen = output.shown(", ".join(found.header.unseen))
        more = " (mount with -o record)" if more_with_record(found.header.unseen) else ""
        yield f"not seen, so not in these figures: {unseen}{more}"
    if found.end is None:
        yield "the recording was cut short"
    elif found.end.lost:
        lost = output.counted(found.end.lost, "request")
        yield f"{lost} lost: the recorder could not keep up, and all figures are lower bounds"
    for one in found.layers:
        if one.why:
            yield output.shown(f"what {one.name.label} has is not known: {one.why}")


def more_with_record(unseen: Iterable[str]) -> bool:
    """Return whether a mount made with ``record`` would show some of what is *unseen*."""
    return any(one.startswith(("opens", "listings", "reads")) for one in unseen)


def _in_a_sentence(whole: Share) -> str:
    files, once = f"{whole.files:,}", output.size(whole.once)
    if whole.held is None:
        return f"{files} files of the layers were read, {once} of them"
    return (
        f"{files} of {whole.held.files:,} files of the layers were read "
        f"({_percent(whole.files, whole.held.files)}), "
        f"{once} of {output.size(whole.held.size)} ({_percent(whole.once, whole.held.size)})"
    )


def _layer_row(label: str, share: Share) -> tuple[str, ...]:
    held = share.held
    files, size = ("-", "-") if held is None else (f"{held.files:,}", output.size(held.size))
    return (
        label,
        files,
        "-" if held is None else f"{share.seen:,}",
        f"{share.files:,}",
        _percent(share.files, held.files if held else 0),
        size,
        output.size(share.once),
        _percent(share.once, held.size if held else 0),
        output.size(share.in_all),
    )


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}%" if whole else "-"


def _show_untouched(found: _Found) -> None:
    from unionfs.inspect.words import command

    untouched = [one for one in found.layers if not one.share.seen and not one.is_upper]
    if not untouched:
        return
    print("\nNever touched:")
    for one in untouched:
        held = "" if one.share.held is None else f", {output.size(one.share.held.size)}"
        made = "" if one.name.command is None else f": {command(one.name.command, _COMMAND)}"
        print(f"  {output.shown(one.name.label)}{held}{made}")


def _show_files(found: _Found) -> None:
    """Print what was read most of the layers; the upper is no part of an image."""
    layers = [layer for layer in found.layers if not layer.is_upper]
    read = [(one, layer) for layer in layers for one in layer.used if one.was_read]
    read.sort(key=lambda both: (-both[0].ranges.bytes, -both[0].in_all, both[0].path))
    if read:
        print()
        output.print_table(_READ, [_file_row(*both) for both in read[:_ROWS]])
        _show_rest(len(read))


def _file_row(one: Used, layer: _Layer) -> tuple[str, ...]:
    held = layer.share.held
    size = None if held is None else held.sizes.get(one.path)
    return (
        output.size(one.ranges.bytes),
        output.size(one.in_all),
        "-" if size is None else output.size(size),
        one.layer,
        output.plain(one.path),
    )


def _show_changed(found: _Found) -> None:
    changed = _changed(found.reads)
    if changed:
        print("\nChanged:")
        output.print_table(_CHANGED, [_changed_row(one) for one in changed[:_ROWS]])
        _show_rest(len(changed))


def _changed_row(one: Changed) -> tuple[str, ...]:
    other = f" -> {output.plain(one.other)}" if one.other else ""
    wrote = output.size(one.wrote) if one.wrote else "-"
    return ", ".join(one.acts), wrote, one.layer or "-", output.plain(one.path) + other


def _show_rest(count: int) -> None:
    if count > _ROWS:
        print(f"… and {count - _ROWS:,} more (--json has all)")
