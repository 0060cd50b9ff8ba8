"""The invented health system, and the main job shown from end to end."""
