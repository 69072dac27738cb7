"""Fixtures that several tiers share live in plugins; what Hypothesis does not judge stands here."""

from hypothesis import HealthCheck, settings

# A test says what is right; how long it takes depends on what else the machine does.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")

pytest_plugins = (
    "tests.plugins.api",
    "tests.plugins.books",
    "tests.plugins.haproxy",
    "tests.plugins.local_nodes",
    "tests.plugins.libvirt_nodes",
    "tests.plugins.openstack_cloud",
    "tests.plugins.redis_server",
    "tests.plugins.ssh_peer",
    "tests.plugins.vagrant_nodes",
)
