"""Organizations, the people who work in them, what their roles allow, and their second factors."""
