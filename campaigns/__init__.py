"""Who gets what, when, and under which authority: campaigns, their audience, approval and launch."""
