"""Fixtures that several tiers share live in plugins."""

pytest_plugins = (
    "tests.plugins.books",
    "tests.plugins.local_nodes",
    "tests.plugins.openstack_cloud",
    "tests.plugins.redis_server",
    "tests.plugins.ssh_peer",
    "tests.plugins.vagrant_nodes",
)
