"""What twistd and clientFromString find: the service, and the socks5: client endpoint."""

from twisted.application.service import ServiceMaker

from whatsproxy.socks5 import SOCKS5EndpointParser

whatsproxy = ServiceMaker(
    "whatsproxy",
    "whatsproxy.tap",
    "One TCP port that carries WhatsApp, XMPP and TLS out, directly or through SOCKS5.",
    "whatsproxy",
)

socks5_endpoint = SOCKS5EndpointParser()
