"""What several adapters share of OpenStack: which account, how to connect, and what an error of it means."""

from pipeline.clients.openstack.account import Account, connect
from pipeline.clients.openstack.faults import told

__all__ = ["Account", "connect", "told"]
