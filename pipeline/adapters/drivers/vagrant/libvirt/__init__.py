"""What the driver knows of vagrant-libvirt: virtual machines on this machine."""
