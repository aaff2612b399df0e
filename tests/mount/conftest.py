from tests.support.fixtures import (  # noqa: F401
    again,
    arena,
    disk,
    disks,
    mount_union,
    overlay,
    scratch,
    spawners,
    union,
)
from tests.support.traced import traced  # noqa: F401
