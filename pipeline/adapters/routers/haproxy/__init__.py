"""Debian's HAProxy as a router: its configuration is made ahead, and changed while it runs through its socket."""

from pipeline.adapters.routers.haproxy.certificates import certificate_in
from pipeline.adapters.routers.haproxy.layout import Layout
from pipeline.adapters.routers.haproxy.router import HaproxyRouter

__all__ = ["HaproxyRouter", "Layout", "certificate_in"]
