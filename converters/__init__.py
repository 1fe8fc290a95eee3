"""A model becomes an artifact on disk, and is checked against the model it came from."""
