"""The terminal explorer of ``unionfs browse``, made with Textual, which only this package imports.

Everything that it shows is read by ``inspect`` where somebody looks, so that an image of any size
opens at once. What takes longer (sizes of directories, searching, comparing, the waste) is done by
workers in threads, each with layers that it opens itself; their answers come back to the thread
that draws.
"""
