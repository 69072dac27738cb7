"""The command line: a client of the API, and what starts and stops a deployment on this machine."""
