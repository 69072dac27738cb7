"""What the driver knows of vagrant-lxc: containers on this machine."""
