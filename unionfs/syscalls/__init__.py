"""What the kernel offers and Python's ``os`` lacks or spells badly.

Everything here is synchronous, works on directory descriptors and takes names as bytes. Failures
are ``OSError`` with the kernel's errno. ctypes is used in this room only.
"""
