"""What stands behind `on_adb.py`: the client, what runs on the phone, what it is, and the tool that measures there."""
