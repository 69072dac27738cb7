"""Worker and tick processes: RQ task functions and their entry points."""
