"""What a message looks like: templates, frozen revisions, compile."""
