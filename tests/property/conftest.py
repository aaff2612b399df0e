from tests.support.fixtures import arena, mount_union, spawners  # noqa: F401
