"""Serve one WSGI module of OpenStack in one process: serve.py NAME MODULE PORT THREADS."""

import importlib
import signal
import sys

from waitress import serve

name, module, port, threads = sys.argv[1:5]
sys.argv = [name]  # the services read their own options from it
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
application = importlib.import_module(module).application
serve(application, host="127.0.0.1", port=int(port), threads=int(threads), ident=None, channel_timeout=600)
