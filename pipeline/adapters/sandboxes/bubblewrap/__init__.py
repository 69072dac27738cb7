"""Bubblewrap: namespaces and a minimal root, as root or as an ordinary user."""

from pipeline.adapters.sandboxes.bubblewrap.sandbox import BubblewrapSandbox

__all__ = ["BubblewrapSandbox"]
