"""The system's OpenSSH client, one kept connection (ControlMaster) a node."""

from pipeline.adapters.transports.openssh.transport import OpenSshTransport

__all__ = ["OpenSshTransport"]
