"""What a client connection can be: one module a kind of behaviour."""
