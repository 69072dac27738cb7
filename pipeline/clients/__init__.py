"""What several adapters share of one outside system."""
