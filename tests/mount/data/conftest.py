from tests.support.fixtures import arena, mount_union, overlay, scratch, union  # noqa: F401
