"""Getting it out and hearing back."""
