from tests.support.fixtures import arena, mount_union  # noqa: F401
