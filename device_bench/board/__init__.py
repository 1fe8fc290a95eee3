"""What runs on a board: the standard library, the board's engine, and of this package what needs nothing more."""
