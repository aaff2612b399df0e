"""The explorer itself: layers at the left, the tree at the right, the explanation below."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar

from rich.console import Group, RenderableType
from rich.text import Text
from textual import on, work
from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Header, OptionList, Static, Tree
from textual.worker import get_current_worker

from unionfs.cli import explain as telling
from unionfs.cli.browser import labels
from unionfs.cli.browser.choosing import Going, Search, Wasted
from unionfs.cli.browser.tree import At, FileTree
from unionfs.errors import UnionfsError
from unionfs.inspect.anatomy import events
from unionfs.inspect.browse import View, as_of, find, sizes, upper_size
from unionfs.inspect.explain import Explanation, explain
from unionfs.inspect.stack import UPPER, LayerName, Source, Stack
from unionfs.inspect.text import plain, shown
from unionfs.inspect.totals import Totals, Waste, add_up

_PATIENCE = 0.15  # seconds that the cursor rests before a path is explained


@dataclass(frozen=True, slots=True)
class Subject:
    """What is explored: *source*, and of what is an image's *whole* of it, all layers included.

    ``opaque`` are the directories of layers whose root hides all that is below.
    """

    source: Source
    whole: Source | None = None
    opaque: frozenset[bytes] = frozenset()


class Browser(App[None]):
    """Explores one *subject*."""

    CSS = """
    #layers { width: 42; height: 100%; border: round $primary; }
    FileTree { width: 1fr; height: 100%; border: round $primary; }
    #top { height: 2fr; }
    #said { height: 1fr; min-height: 8; border: round $primary; padding: 0 1; }
    #layers:focus, FileTree:focus, #said:focus { border: round $accent; }
    ModalScreen { align: center middle; }
    .window { width: 90%; height: 80%; border: round $accent; padding: 0 1; background: $surface; }
    .window OptionList { height: 1fr; border: none; }
    #layers, FileTree, #said, .window OptionList { scrollbar-size-vertical: 1; }
    .-narrow #layers { width: 30; }
    .-narrow #said { min-height: 10; }
    .-narrow .window { width: 100%; height: 100%; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        ("c", "only_changes", "Only changes"),
        ("s", "by_size", "Sort by size"),
        ("slash", "search", "Search"),
        ("w", "waste", "Waste"),
        ("r", "read_again", "Read again"),
        ("q", "quit", "Quit"),
    ]
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - not ours to type

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.title = subject.source.subject
        self._subject = subject
        self._source = subject.source
        self._place = 0
        self._view: View | None = None
        self._totals: Totals | None = None
        self._upper_size: int | None = None

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Header(icon="")
        with Horizontal(id="top"):
            yield OptionList(*map(self._label, self._source.layers), id="layers", markup=False)
            yield FileTree()
        with VerticalScroll(id="said"):
            yield Static(id="words", markup=False)
        yield Footer()

    def on_mount(self) -> None:
        """Show the topmost layer, and begin to count what each does."""
        self.query_one("#layers").border_title = "Layers"
        self.query_one("#said").border_title = "Why it is so"
        self._choose(0)
        self.query_one("#layers", OptionList).highlighted = 0
        self._tree.focus()
        if self._subject.whole is not None:
            self._count(self._subject.whole)
        if self._source.upper:
            self._weigh_upper()

    def on_unmount(self) -> None:
        """Close the layers."""
        if self._view is not None:
            self._view.close()

    @property
    def _tree(self) -> FileTree:
        return self.query_one(FileTree)

    def _label(self, name: LayerName) -> Text:
        layers = self._totals.layers if self._totals is not None else ()
        totals = next((one for one in layers if one.layer.digest == name.digest), None)
        if name.label == UPPER:
            return labels.of_layer(name, self._upper_size, None)
        return labels.of_layer(name, None if totals is None else totals.size, totals)

    def _label_all(self) -> None:
        for options in self.query("#layers").results(OptionList):  # none while it closes
            for place, name in enumerate(self._source.layers):
                options.replace_option_prompt_at_index(place, self._label(name))

    @on(OptionList.OptionHighlighted, "#layers")
    def layer_chosen(self, event: OptionList.OptionHighlighted) -> None:
        """Show the tree as of another layer."""
        if event.option_index != self._place:
            self._choose(event.option_index)

    def _choose(self, place: int) -> None:
        try:
            view = View(self._source, place)
        except (UnionfsError, OSError) as error:
            self._complain(error)
            return
        old, self._view, self._place = self._view, view, place
        wishes = self._tree.wishes
        wishes.sizes = {}
        self._tree.look_at(view)
        if old is not None:
            old.close()
        if wishes.by_size:
            self._measure(place)
        self._title()

    def _complain(self, error: Exception) -> None:
        self.notify(shown(str(error)), severity="error", markup=False)

    def _title(self) -> None:
        wishes = self._tree.wishes
        label = self._source.layers[self._place].label
        what = f"what {label} changes" if wishes.only_changes else f"as of {label}"
        order = ", the largest first" if wishes.by_size else ""
        self._tree.border_title = f"Files: {what}{order}"

    def action_only_changes(self) -> None:
        """Show only what the layer changes, or everything."""
        self._tree.wishes.only_changes = not self._tree.wishes.only_changes
        self._tree.show_again()
        self._title()

    def action_by_size(self) -> None:
        """Sort by size, or by name."""
        wishes = self._tree.wishes
        wishes.by_size = not wishes.by_size
        if wishes.by_size and not wishes.sizes:
            self._measure(self._place)
        self._tree.show_again()
        self._title()

    def action_read_again(self) -> None:
        """Read the layers again: a container's upper changes while it runs."""
        self._choose(self._place)
        if self._source.upper:
            self._weigh_upper()

    def action_search(self) -> None:
        """Find a name in the tree as of this layer."""
        place = self._place

        def looking(text: bytes, going: Going) -> Iterable[bytes]:
            return find(self._source, place, text, going)

        self.push_screen(Search(self._source.layers[place].label, looking), self._go_to)

    def action_waste(self) -> None:
        """Choose among what is shipped and never shows."""
        if self._totals is not None:
            self.push_screen(Wasted(self._totals.waste), self._go_to_waste)
        elif self._subject.whole is not None:
            self.notify("still counting")
        else:
            self.notify("waste is of images: these are plain directories")

    def _go_to_waste(self, one: Waste | None) -> None:
        """Go to where the file is shipped: the tree as of that layer."""
        if one is None:
            return
        labelled = [name.number for name in self._source.layers]
        if one.layer.number not in labelled:
            self.notify(f"all of {one.layer.label} is hidden: it is not mounted")
            return
        self.query_one("#layers", OptionList).highlighted = labelled.index(one.layer.number)
        self._choose(labelled.index(one.layer.number))
        self._go_to(one.path)

    def _go_to(self, path: bytes | None) -> None:
        if path is None:
            return
        if not self._tree.go_to(path) and self._tree.wishes.only_changes:
            self.action_only_changes()
            self._tree.go_to(path)
        self._tree.focus()

    @on(Tree.NodeHighlighted)
    def path_chosen(self, event: Tree.NodeHighlighted[At]) -> None:
        """Explain the path that the cursor is on, when it rests there."""
        if event.node.data is not None:
            self._explain(event.node.data.path, self._place)

    @work(exclusive=True, group="explain")
    async def _explain(self, path: bytes, place: int) -> None:
        await asyncio.sleep(_PATIENCE)
        try:
            found = await asyncio.to_thread(explain, as_of(self._source, place), path)
            said = self._drawn(found)
        except (UnionfsError, OSError) as error:
            said = Text(shown(str(error)), "red")
        for words in self.query("#words").results(Static):  # none while the explorer closes
            words.update(said)
            self.query("#said").first().scroll_home(animate=False)

    @staticmethod
    def _drawn(found: Explanation) -> RenderableType:
        title = Text.assemble((plain(found.path), "bold"), f" in {found.subject}")
        return Group(title, telling.conclusion(found), "", telling.said(found.steps[-1]))

    @work(thread=True, exclusive=True, group="measure")
    def _measure(self, place: int) -> None:
        worker = get_current_worker()
        try:
            found = sizes(self._source, place, lambda: not worker.is_cancelled)
        except (UnionfsError, OSError) as error:
            self.call_from_thread(self._complain, error)
            return
        if not worker.is_cancelled:
            self.call_from_thread(self._measured, place, found)

    def _measured(self, place: int, found: Mapping[bytes, int]) -> None:
        for tree in self.query(FileTree) if place == self._place else ():
            tree.wishes.sizes = found
            tree.show_again()

    @work(thread=True, group="count")
    def _count(self, whole: Source) -> None:
        worker = get_current_worker()
        try:
            with Stack(whole) as stack:
                told = events(stack, self._subject.opaque)
                totals = add_up(whole.layers, takewhile(lambda _: not worker.is_cancelled, told))
        except (UnionfsError, OSError) as error:
            self.call_from_thread(self._complain, error)
            return
        if not worker.is_cancelled:
            self.call_from_thread(self._counted, totals)

    def _counted(self, totals: Totals) -> None:
        self._totals = totals
        self._label_all()

    @work(thread=True, exclusive=True, group="upper")
    def _weigh_upper(self) -> None:
        try:
            size = upper_size(self._source)
        except OSError:
            return  # it was changed meanwhile: the next look tells
        if not get_current_worker().is_cancelled:
            self.call_from_thread(self._weighed, size)

    def _weighed(self, size: int) -> None:
        self._upper_size = size
        self._label_all()
