"""Words on the screen: the command's entry, one module a noun, output and progress."""
