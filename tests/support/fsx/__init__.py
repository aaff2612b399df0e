"""Random reads, writes, truncations, holes and maps of a few files, compared with a model.

The idea is that of Apple's fsx: one program does to a file whatever programs do to files and knows
at every moment what each byte has to be. Written anew for unions: the files may be in a lower
layer, be copied up in the middle, have several names or none, and each has several openers whose
descriptors and mappings live through all that.

``ops`` makes the operations of a seed, ``exerciser`` performs and checks them, ``episode`` does so
in a child process on a fresh mount and shrinks what fails to a list that fails by itself.
"""
