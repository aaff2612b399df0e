"""A progress bar on a terminal, and nothing anywhere else."""

from __future__ import annotations
