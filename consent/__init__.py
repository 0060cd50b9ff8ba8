"""May we write: authorizations, opt-outs, the gate."""
