from tests.support.fixtures import (  # noqa: F401
    arena,
    mount_union,
    overlay,
    scratch,
    spawners,
    union,
)
