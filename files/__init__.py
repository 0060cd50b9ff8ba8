"""Files on their way in or out: encrypted, expiring, neutralised."""
