"""The store: layers, images and containers, with the references and locks between them.

Used by ``image/`` (which fills it) and ``container/`` (which mounts from it). It knows digests and
directories; it knows neither OCI documents nor FUSE. ``store.Store`` is the way in.

On disk, below the root (every directory 0700)::

    store.db                         SQLite: what exists and who refers to it
    store.db-journal                 its journal, whose blocks stay allocated
    spare                            an empty file that becomes a lock where no inode is free
    layers/sha256/<diffID hex>/      diff/ (the layer, kernel overlayfs format), layer.json, and
                                     recipe (how its tar was written; ``tarball.recipe``)
    blobs/sha256/<hex>               a layer as it was shipped, where that is kept
    fixups/sha256/<chainID hex>/     directories whose metadata no layer of an image can hold
    indexes/sha256/<chainID hex>     what an image's layers show together, where that is known
    containers/<id>/                 upper/ work/ merged/ log; next/ while it is being rebased
    locks/                           flock files, one for each name that is being made or removed
    tmp/                             work in progress; each directory flocked by its living writer

Invariants: what has its final name is complete; metadata is deleted first and data second; files
are touched outside transactions; a flock of ``locks/`` is always taken before a transaction, never
inside one. Several processes may use one store; a Store may be used by several threads, and must
not be carried across a fork.
"""
