"""One folder per kind of plugin, one module per outside system; strangers to each other."""
