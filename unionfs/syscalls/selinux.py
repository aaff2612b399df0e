"""Whether the kernel gives files SELinux labels, which a mount's ``context=`` is about."""

from __future__ import annotations


def enabled() -> bool:
    """Return whether SELinux runs here; where it does not, mount(2) takes no ``context=``."""
    try:
        with open("/proc/filesystems", "rb") as table:
            return any(line.split()[-1] == b"selinuxfs" for line in table)
    except FileNotFoundError:
        return False
