"""Where inventories come from: a file."""
