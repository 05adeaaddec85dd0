"""What the commands ``mmfgl run``, ``predict`` and ``demo`` do."""
