"""The log: who did what, sealed so that it cannot be rewritten unnoticed."""
