from tests.support.fixtures import (  # noqa: F401
    again,
    arena,
    mount_union,
    overlay,
    scratch,
    spawners,
    union,
)
from tests.support.traced import traced  # noqa: F401
