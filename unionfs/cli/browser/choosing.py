"""Windows over the explorer in which a path is chosen: by searching, or from what is wasted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label, OptionList
from textual.worker import get_current_worker

from unionfs.cli import output
from unionfs.cli.browser import labels
from unionfs.errors import UnionfsError

if TYPE_CHECKING:
    from unionfs.inspect.totals import Waste

_MOST = 500  # lines in a list
_BACK = "Esc goes back"
Going = Callable[[], bool]


class Search(ModalScreen[bytes | None]):
    """Asks for a part of a name, and dismisses with the path that is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss", "Back")]

    def __init__(self, layer: str, find: Callable[[bytes, Going], Iterable[bytes]]) -> None:
        """*find* yields paths as of *layer* until its second argument says no; in a thread."""
        super().__init__()
        self._layer = layer
        self._find = find
        self._found: Sequence[bytes] = ()

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        with Vertical(classes="window") as window:
            window.border_subtitle = _BACK
            yield Label(f"Find names as of {self._layer} (Enter searches)")
            yield Input(placeholder="a part of the name")
            yield Label("", id="count")
            yield OptionList(markup=False)

    @on(Input.Submitted)
    def search(self, event: Input.Submitted) -> None:
        """Look for what was typed; an earlier search ends."""
        if event.value:
            self.query_one("#count", Label).update("searching …")
            self._look(event.value.encode("utf-8", "surrogateescape"))

    @work(thread=True, exclusive=True, group="search")
    def _look(self, text: bytes) -> None:
        worker = get_current_worker()
        try:
            found = list(islice(self._find(text, lambda: not worker.is_cancelled), _MOST))
            said = f"{len(found)} found" if len(found) < _MOST else f"the first {_MOST}"
        except (UnionfsError, OSError):
            found, said = [], "cannot be read: the files were changed meanwhile"
        if not worker.is_cancelled:
            self.app.call_from_thread(self._show, found, said)

    def _show(self, found: Sequence[bytes], said: str) -> None:
        self._found = found
        self.query_one("#count", Label).update(said)
        options = self.query_one(OptionList)
        options.set_options(output.plain(path) for path in found)
        if found:
            options.highlighted = 0
            options.focus()

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        """Leave with the path that was chosen."""
        self.dismiss(self._found[event.option_index])


class Wasted(ModalScreen["Waste | None"]):
    """Lists what is shipped and never shows, and dismisses with the one that is chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss", "Back")]

    def __init__(self, waste: Sequence[Waste]) -> None:
        super().__init__()
        self._waste = waste

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        total = output.size(sum(one.bytes for one in self._waste))
        count = output.counted(len(self._waste), "file")
        more = f"; the largest {_MOST}" if len(self._waste) > _MOST else ""
        with Vertical(classes="window") as window:
            window.border_subtitle = _BACK
            yield Label(f"Shipped and never shown: {total} in {count}{more}")
            yield OptionList(*(labels.of_waste(one) for one in self._waste[:_MOST]), markup=False)

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        """Leave with the file that was chosen."""
        self.dismiss(self._waste[event.option_index])
