"""overlayfs's bytes and names (Documentation/filesystems/overlayfs.rst, fs/overlayfs/).

Both directions of the format are here and nowhere else: what a whiteout, an opaque mark, a
redirect or an origin looks like, for the kernel's two flavours and for what fuse-overlayfs writes.
"""
