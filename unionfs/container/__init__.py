"""The verbs: create, mount, run, look at, and throw away containers of a store.

This room joins the store (what a container is made of) to the daemon's client side (what mounts
it). Whether a container is mounted is never written down: the mount table says it, so a crash
leaves nothing stale (``state``). Everything is synchronous and runs in the command's process.
"""
