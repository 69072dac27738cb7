"""Where inventories come from: a file, or this machine itself."""
