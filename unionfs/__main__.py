"""``python -m unionfs`` is the ``unionfs`` command."""

from unionfs.cli.main import entry

entry()
