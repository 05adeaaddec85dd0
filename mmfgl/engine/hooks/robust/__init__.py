"""Hooks that override or patch private parts of MMEngine."""
