"""Who gets what, when, under which authority."""
