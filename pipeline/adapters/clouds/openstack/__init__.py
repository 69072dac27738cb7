"""An OpenStack cloud, as one account that may see machines shows it, or else as ordinary accounts do."""

from pipeline.adapters.clouds.openstack.cloud import OpenStackCloud

__all__ = ["OpenStackCloud"]
