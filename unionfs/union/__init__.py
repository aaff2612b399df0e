"""Reading a stack of layers: one merged tree over directories that are never written here.

The users are ``upper`` (which changes the tree), ``fuse`` (which serves it) and ``inspect`` (which
explains it). Nothing here knows FUSE or trio, and everything can be tested on plain directories.

Invariants:

* Directories are reached by descriptors, each relative to its parent's; a path is never spelled
  out beyond one layer's own directory.
* Everything is synchronous. A caller that never awaits between two calls sees one state.
* Lower layers do not change while a tree is open (overlayfs.rst, "Changes to underlying
  filesystems"); what was read from them stays true.
"""
