"""What can be converted: networks, their weights, their preprocessing. Imports nothing else of evit-edge."""
