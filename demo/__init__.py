"""An invented health system, and the main job shown on it from end to end; nobody in it exists."""
