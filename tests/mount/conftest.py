from tests.support.fixtures import again, arena, mount_union, overlay, scratch, union  # noqa: F401
