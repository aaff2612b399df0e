"""How events travel from a mount to who traces it: as the extension writes them, with few words.

A mount answers with a *reply*: a header and pieces, each of which can be understood by itself
(``inspect.piece``). Recordings have such pieces, too (``inspect.recording``).

    reply    REPLY (form, whether more is waiting, number, process, how many events were lost),
             pieces
    piece    PIECE (sizes of what follows; what was counted before its heap; the clock), then
    nodes    NODE (number, sizes), path and layer, of each node that the records mention
    records  RECORD each, as struct record in unionfs/fuse/_native.h
    heap     the names in the records, one after the other

The first reply has no pieces, but says of which process which descriptor is a file in memory. Who
can opens it and has later replies written there, with the number of bytes of their pieces. When the
mount ends the rest is written behind that, at REST_AT, with END for more: the last reply may not be
read yet. Until the first reply the file has the reader's name.

A record says nodes by number and names apart: its ``path`` is that of its node, with its first name
below that if it has one, ``other`` likewise, and ``layer`` is that of the node that was shown.
Where its names are is counted from the first name that was told, in 32 bits that begin anew when
they are used up.
"""

from __future__ import annotations

import struct

FORM = 3  # of what is described here
END = 2  # for more: never
MEMORY = "unionfs-trace"  # the file's name in /proc
REST_AT = 1 << 24  # more than a reply has

REPLY = struct.Struct("=BBxxIIQ")  # form, more, number, process, lost
REPLY_MORE_AT = 1
PIECE = struct.Struct("=IIIIq")  # bytes of nodes, records and heap; base; clock
NODE = struct.Struct("=QHH")  # number, bytes of path and layer

# start and took (ns, by the piece's clock), node, other node, shown node, size, offset; where its
# names are, process, errno; opcode, hooked, bytes of first and other name; comm
RECORD = struct.Struct("=QQQQQQQIIiBBBB16s")
