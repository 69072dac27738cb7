"""Real nodes on this machine: runc containers behind a small helper, which is the only part that runs as root."""
