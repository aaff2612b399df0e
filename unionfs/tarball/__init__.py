"""Layer tars in and out: reading hostile ones safely, applying them to a directory, emitting them.

Python's ``tarfile`` is not used, not even for headers: it takes a damaged header in mid-archive for
the end of the archive, reads extended headers of any size into memory, turns pax times into floats
and pax values into text.
"""
