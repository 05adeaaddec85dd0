"""Pictures of what the FGL RoI head reads."""
