"""``make install``: program, manual page and completions, where a system expects them."""
