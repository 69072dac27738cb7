"""The test cloud behind a faulty proxy: its compute and its network service are reached through it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from pipeline.clients.openstack import Account
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of
from tests.tools.faulty_proxy import FaultyProxy

#: Services that are reached by way of the proxy, and the version in their URLs, which saves looking for it.
VERSIONS = {"compute": "v2.1", "network": "v2.0"}


def upstream_of(cloud: CloudUnderTest) -> dict[str, str]:
    """Where the real APIs are, by service."""
    with closing(connection_of(cloud, cloud.ours)) as connection:
        urls = {name: urlsplit(str(connection.endpoint_for(name))) for name in VERSIONS}
    return {name: f"{url.scheme}://{url.netloc}" for name, url in urls.items()}


def account_behind(proxy: FaultyProxy, cloud: CloudUnderTest, folder: Path) -> Account:
    """Our account, as an entry of a file of its own."""
    file = folder / "clouds.yaml"
    told = {name: f"{proxy.url(name)}/{version}" for name, version in VERSIONS.items()}
    overrides = "".join(f"    {name}_endpoint_override: {url}\n" for name, url in told.items())
    ours = cloud.clouds_file.read_text().split("  greenroom:\n")[1].split("  neighbour:")[0]
    file.write_text("clouds:\n  greenroom:\n" + overrides + ours)
    return Account("greenroom", str(file), timeout_s=30)
