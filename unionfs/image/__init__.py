"""Images in and out of a store: OCI layouts, Docker archives, plain root filesystems.

Used by ``container/`` and the command line. Everything read here comes from an attacker until its
digest has been checked, and its meaning until its types have been: documents go through
``documents``, paths in documents are looked up (``files``) and never resolved, layers go through
``tarball``. Nothing is printed; whoever wants to show progress passes a ``Progress``.
"""
