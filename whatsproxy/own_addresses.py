"""Whether an address is this host's, asked of the system without asking for a list of them."""

import socket
from functools import cache

from whatsproxy.descriptors import EXHAUSTED, NoDescriptorsError


def is_own(address: str) -> bool:
    """Whether an address is this host's: then the system would dial it from itself.

    Raises NoDescriptorsError where there is none to ask with: who cannot ask must not say no.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        if _can_bind(family, address):
            return not _can_bind_anything(family) or _is_source_of_itself(family, address)
    except OSError as e:
        if e.errno in EXHAUSTED:
            raise NoDescriptorsError("no descriptor to judge an address with") from None
    return False


def _can_bind(family: int, address: str) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        try:
            s.bind((address, 0))
        except OSError as e:
            if e.errno in EXHAUSTED:
                raise
            return False
        return True


@cache
def _can_bind_anything(family: int) -> bool:
    """Whether the system lets others' addresses be bound (ip_nonlocal_bind)."""
    return _can_bind(family, "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1")


def _is_source_of_itself(family: int, address: str) -> bool:
    """Whether the system would send from an address to itself: so it does with a primary one."""
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.connect((address, 9))  # sends nothing
        own: str = s.getsockname()[0]
        return own == address
