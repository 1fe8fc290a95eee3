"""What stands behind `on_ssh.py`: the link, what is sent over it, and which devices a user has."""
