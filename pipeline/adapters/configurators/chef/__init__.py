"""The Chef configurator: Chef Infra Client or Cinc Client in local mode on the node."""

from pipeline.adapters.configurators.chef.configurator import ChefConfigurator
from pipeline.adapters.configurators.chef.local_client import pack_local_client
from pipeline.adapters.configurators.chef.package import ChefPackage

__all__ = ["ChefConfigurator", "ChefPackage", "pack_local_client"]
