"""The people written to: the one home of PHI, how they are imported, found and erased."""
