"""HTTP/1.1 without a connection: what a message is, what of it goes on, and what we answer."""
