"""Where the code of repositories runs."""
