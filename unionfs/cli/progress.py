"""Progress bars of an import: on a terminal, on standard error, and nowhere else.

``rich`` is imported only when there is something to draw on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from unionfs.image.progress import Progress, Quiet

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from unionfs.digest import Digest


@contextmanager
def import_progress(
    *, quiet: bool, done: str = "stored", nameless: str = "root filesystem"
) -> Iterator[Progress]:
    """Yield what to tell an import's progress to; with *quiet*, or off a terminal, it is mute.

    *done* is what a layer is in the end, *nameless* what one without a diffID is called.
    """
    if quiet or not sys.stderr.isatty():
        yield Quiet()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with Bars(*columns, TransferSpeedColumn(), console=console, transient=True) as bars:
        yield LayerBars(bars, done, nameless)


class LayerBars:
    """A bar for each layer that is being read, until it is stored."""

    def __init__(self, bars: Bars, done: str = "stored", nameless: str = "root filesystem") -> None:
        self._nameless = nameless
        self._bars = bars
        self._done = done
        self._tasks: dict[Digest | None, TaskID] = {}

    def layer_started(self, layer: Digest | None, total: int | None) -> None:
        """Draw a bar for *layer* of *total* bytes."""
        label = self._nameless if layer is None else f"layer {layer.short}"
        self._tasks[layer] = self._bars.add_task(label, total=total)

    def advanced(self, layer: Digest | None, count: int) -> None:
        """Let the bar of *layer* grow by *count* bytes."""
        self._bars.update(self._tasks[layer], advance=count)

    def layer_done(self, layer: Digest | None, *, stored_before: bool) -> None:
        """Take the bar away and leave a line in its place."""
        task = self._tasks.pop(layer, None)
        if task is not None:
            self._bars.remove_task(task)
        label = self._nameless if layer is None else f"layer {layer.short}"
        what = "stored before" if stored_before else self._done
        self._bars.console.print(f"{label}: {what}", highlight=False)
