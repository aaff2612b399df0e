"""Looking into the stack: why a path is what it is, what an image is made of.

The users are ``container`` (which knows what a name stands for), ``fuse`` (virtual attributes) and
``cli``. Everything is read from the layers' directories by the driver's own lookup
(``union.reasons``); nothing is ever written, and no mount needs to be there. Layers are closed by
who opened them; nothing is shared between threads.
"""
