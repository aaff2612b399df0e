"""unionfs mounts container root filesystems from images.

The package is a house of rooms that import in one direction only; the table of rooms is in
``docs/architecture.md`` and is held by ``tests/unit/test_house.py``.
"""

__version__ = "0.1.0"
