"""What it means to hold protected health information: encrypted, bound to its row, never in clear."""
