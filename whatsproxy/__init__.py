"""One TCP port that carries WhatsApp, XMPP and HTTP out of a restricted network."""

__version__ = "0.1.0"
