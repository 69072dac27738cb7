"""A day of Greenroom in seconds: virtual time, made-up load, and the placement that production uses."""
