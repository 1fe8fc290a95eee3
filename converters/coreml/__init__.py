"""Core ML packages: written by coremltools, then read, executed and inspected from the saved file alone."""
