"""The node helper as a child that ends with its supervisor, although one is root's and the other need not be."""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading

HELPER = "pipeline.adapters.drivers.local.helper"


def main(arguments: list[str]) -> None:
    """Run the node helper until standard input ends."""
    threading.Thread(target=_end_with_input, args=(threading.main_thread().ident,), daemon=True).start()
    os.umask(0o022)  # every process of a node inherits it
    sys.argv[1:] = arguments
    runpy.run_module(HELPER, run_name="__main__", alter_sys=True)


def _end_with_input(main_thread: int) -> None:
    while os.read(sys.stdin.fileno(), 64):
        pass
    signal.pthread_kill(main_thread, signal.SIGTERM)
