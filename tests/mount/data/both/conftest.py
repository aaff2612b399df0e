"""The tests of this directory run twice: with the C extension, and without it."""

from tests.support.modes import mode, mount_union, spawner  # noqa: F401
