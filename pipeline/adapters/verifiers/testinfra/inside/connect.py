"""Connect to a Unix socket and hand it over: the `ProxyCommand` of ssh in a sandbox, used with `ProxyUseFdpass`."""

import socket
import sys

with socket.socket(socket.AF_UNIX) as node, socket.socket(fileno=1) as ssh:
    node.connect(sys.argv[1])
    socket.send_fds(ssh, [b"\0"], [node.fileno()])
