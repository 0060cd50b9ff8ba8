"""May we write to this person, for this purpose, now? Facts, and the one gate that reads them."""
