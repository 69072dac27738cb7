"""What clouds show beyond our own nodes."""
