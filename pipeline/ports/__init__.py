"""What the application asks of the outside world; the docstring of each Protocol is its whole protocol."""
