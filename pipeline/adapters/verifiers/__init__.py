"""Who judges an environment."""
