"""The tree of the explorer: directories are read when they are opened, and not before."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field

from rich.text import Text
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from unionfs.cli import output
from unionfs.cli.browser import labels
from unionfs.errors import UnionfsError
from unionfs.inspect.browse import Entry, View
from unionfs.inspect.text import shown

_MOST = 2000  # names of a directory that are shown; searching finds the others


@dataclass(slots=True)
class Wishes:
    """What of a directory is shown, and in which order; ``sizes`` of directories, if known."""

    only_changes: bool = False
    by_size: bool = False
    sizes: Mapping[bytes, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class At:
    """Where a line of the tree is; *entry* is None for the root and for what is left out."""

    path: bytes
    entry: Entry | None = None


class FileTree(Tree[At]):
    """The tree of one view at a time."""

    def __init__(self) -> None:
        super().__init__("/", At(b"/"))
        self.wishes = Wishes()
        self.view: View | None = None
        self._read: set[bytes] = set()

    def look_at(self, view: View) -> None:
        """Show *view*, whose owner stays the caller, from the root on."""
        self.view = view
        self.show_again()

    def show_again(self) -> None:
        """Draw everything anew, after ``wishes`` changed, with what is open staying open."""
        chosen = self.chosen()
        open_paths = [path for path in sorted(self._read) if path != b"/"]
        self.clear()
        self._read.clear()
        self._fill(self.root)
        self.root.expand()
        for path in open_paths:
            self._open(path)
        if not self.go_to(chosen):
            self.go_to(b"/")

    def chosen(self) -> bytes:
        """Return the path that the cursor is on."""
        node = self.cursor_node
        return node.data.path if node is not None and node.data is not None else b"/"

    def go_to(self, path: bytes) -> bool:
        """Put the cursor on *path*, opening what is above; False where that is not there."""
        parent = self._open(path.rpartition(b"/")[0] or b"/")
        node = self.root if path == b"/" else parent and self._child(parent, path)
        if node is None:
            return False
        _ = self.last_line  # asking for it gives new nodes their lines
        self.move_cursor(node)
        # Where the line stays the same one, Textual does not say that another node is on it.
        self.post_message(Tree.NodeHighlighted(node))
        self.call_after_refresh(self._bring_into_view, node)
        return True

    def _bring_into_view(self, node: TreeNode[At]) -> None:
        """Scroll to *node*, and again: a scroll bar may come with the first, over its line."""
        self.scroll_to_node(node, animate=False)
        self.call_after_refresh(self.scroll_to_node, node, animate=False)

    def on_tree_node_expanded(self, event: Tree.NodeExpanded[At]) -> None:
        """Read a directory that is opened for the first time."""
        self._fill(event.node)

    def _open(self, path: bytes) -> TreeNode[At] | None:
        """Open the directory *path* and all that lead to it."""
        node = self.root
        at = b""
        for name in path.split(b"/"):
            if not name:
                continue
            at += b"/" + name
            self._fill(node)
            found = self._child(node, at)
            if found is None or not found.allow_expand:
                return None
            node.expand()
            node = found
        self._fill(node)
        node.expand()
        return node

    def _child(self, parent: TreeNode[At], path: bytes) -> TreeNode[At] | None:
        """Return the line of *path*, added if the directory has too many to show all."""
        for child in parent.children:
            if child.data is not None and child.data.path == path and child.data.entry is not None:
                return child
        name = path.rpartition(b"/")[2]
        assert parent.data is not None
        for entry in self._entries(parent.data.path):
            if entry.name == name:
                left_out = parent.children[-1] if parent.children else None
                return self._add(parent, parent.data.path, entry, before=left_out)
        return None

    def _fill(self, node: TreeNode[At]) -> None:
        at = node.data
        if at is None or at.path in self._read:
            return
        self._read.add(at.path)
        entries = self._entries(at.path)
        for entry in entries[:_MOST]:
            self._add(node, at.path, entry)
        if len(entries) > _MOST:
            left = output.counted(len(entries) - _MOST, "more name")
            node.add_leaf(Text(f"… {left}: / finds them", "dim"), At(at.path))

    def _entries(self, path: bytes) -> list[Entry]:
        """Return what of a directory is shown. What cannot be read is said, and is nothing."""
        if self.view is None:
            return []
        try:
            entries = self.view.entries(path)
        except (UnionfsError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else shown(str(error))
            said = f"{output.plain(path)}: {why} (r reads again)"
            self.notify(said, severity="error", markup=False)
            return []
        if self.wishes.only_changes:
            entries = [entry for entry in entries if entry.differs]
        if self.wishes.by_size:
            entries.sort(key=lambda one: (-(self._amount(path, one) or 0), one.name))
        return entries

    def _add(
        self, parent: TreeNode[At], path: bytes, entry: Entry, before: TreeNode[At] | None = None
    ) -> TreeNode[At]:
        at = At(path.rstrip(b"/") + b"/" + entry.name, entry)
        label = labels.of_entry(entry, self._amount(path, entry))
        if entry.is_dir:
            return parent.add(label, at, before=before)
        return parent.add_leaf(label, at, before=before)

    def _amount(self, path: bytes, entry: Entry) -> int | None:
        """Return the bytes of a file, or of all below a directory where that is known."""
        if entry.is_dir:
            return self.wishes.sizes.get(path.rstrip(b"/") + b"/" + entry.name)
        return entry.size if entry.kind == stat.S_IFREG else None
