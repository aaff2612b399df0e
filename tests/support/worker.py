"""Begins a worker of pytest-xdist: ``python tests/support/worker.py WORDS…``, Python's own words.

A worker has a second thread, which waits for what to run next. A signal that a test holds back in
its own thread would come to that one and end the worker; so that thread begins with all of them
blocked, and only the thread of the tests takes them (tests/conftest.py).
"""

from __future__ import annotations

import os
import signal
import sys

signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
