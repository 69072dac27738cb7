"""The HTTP API: translate, call a use case, render."""
