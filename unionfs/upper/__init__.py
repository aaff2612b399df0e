"""Writing: every change of the merged tree, as changes of the upper directory.

``Upper`` (``upper.py``) is the state that the verbs share; each verb is a module of functions that
take it. A verb changes the disk first and the nodes second, so an error from the disk leaves the
tree as it was.

What a verb promises (DESIGN.md 2.3): killed at any point, the disk shows the state before or the
state after and nothing between. The means are always the same: prepare under a temporary name in
the work directory, then one rename (or link) that publishes. Temporary names live in the work
directory only and never show.

Nothing here awaits. Copying much data is split off (``copyup.FileCopy.copy``) so that a caller may
run it in a thread: it touches its own descriptors and nothing else.
"""
