"""Random calls by random callers, in a plain directory and in a mount, compared.

``trees``: what is there before; ``callers``: who calls; ``steps``: what is drawn; ``actor``: how
the calls are made; ``compare``: what became of it; ``known``: differences that are documented;
``cases``: running and shrinking.
"""
