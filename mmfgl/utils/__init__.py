"""Launching, checks, files and randomness; imports nothing of mmfgl."""
