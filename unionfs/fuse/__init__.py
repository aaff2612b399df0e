"""The pyfuse3 adapter: FUSE requests in, calls of ``union`` and ``upper`` out.

``Session`` is one mount's life; ``Operations`` holds the request handlers, which are thin:
they find the node, let ``upper`` or ``union`` do the work, and answer with attributes.

Threading: one thread runs trio and every handler. A handler that does not await is atomic against
all others. The only work done elsewhere is copying the content of files and syncing, through
``threads.run``, on descriptors that belong to that work alone.

Caching: nothing changes behind the kernel's back, so names, absences and attributes are given to it
without end of validity, and it is told of the few changes that a request makes to *other* files.
"""

from unionfs.fuse import native as native  # must come before anything imports pyfuse3
