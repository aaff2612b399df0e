"""What can go wrong with an installation, told in one line."""


class InstallError(Exception):
    """The installation cannot be done; the message says why."""
