"""An artifact becomes numbers: runtimes, devices, the measuring protocol, records and tables."""
