"""What a mail looks like: blocks, merge tags, compile, and the encoded pieces that are sent."""
