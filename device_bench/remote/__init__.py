"""This side of a machine without this package: a link to it, and the runner that is put there."""
