"""The parts of propose_regions.py, imported beside it."""
