"""The reports app's commands."""
