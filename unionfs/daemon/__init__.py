"""Process life: starting a daemon for a mount, what it does until it leaves, and ending it.

``spawn`` is for whoever mounts, ``client`` for whoever unmounts; ``serve`` is the daemon's side.
Nothing here imports trio or pyfuse3 before the fork: they cost most of a mount's start-up and the
process that asks for the mount has no use for them.
"""
