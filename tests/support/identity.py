"""Files keep their inode numbers: told by a plain tree beside the union."""

from __future__ import annotations

from tests.support import trees


class Identity:
    """Which file of the union a file of the plain tree is, by inode number, for the files' life.

    Through copy-up, rename and remount a file keeps its number, as it does in a plain directory.
    """

    def __init__(self) -> None:
        self._known: dict[int, int] = {}

    def compare(self, plain: trees.Tree, ours: trees.Tree) -> list[str]:
        """Return a line for each file that was another one when last looked at."""
        seen: dict[int, int] = {}
        lines = []
        for path, node in plain.nodes.items():
            number = ours.nodes[path].ino
            before = self._known.get(node.ino, number)
            if before != number:
                lines.append(f"{path!r}: st_ino was {before} and is {number}")
            if seen.setdefault(node.ino, number) != number:
                lines.append(f"{path!r}: its links have other numbers")
        owners = {number: ino for ino, number in self._known.items()}
        lines += [
            f"{number} was the st_ino of another file"
            for ino, number in seen.items()
            if owners.get(number, ino) != ino
        ]
        self._known = seen
        return lines
