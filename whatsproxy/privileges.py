"""Started as root to run as somebody else (``twistd --uid``): what that user must own by then."""

import os
import pwd
import stat
from collections.abc import Mapping
from typing import Any

from twisted.application.service import Service
from twisted.logger import Logger

from whatsproxy.tls_server import TlsServer

#: User and group; -1 stands for the one that it is.
Owner = tuple[int, int]

log = Logger()


def owner_to_be(twistd: Mapping[str, Any]) -> Owner | None:
    """Return whom twistd is going to be, by its own options; None where it stays who it is."""
    uid, gid = twistd.get("uid"), twistd.get("gid")
    if uid is None:
        return None if gid is None else (-1, gid)
    # As twistd does.
    return uid, pwd.getpwuid(uid).pw_gid if gid is None else gid


class Inheritance(Service):
    """Gives the user what is renewed while the service runs; to be started behind the proxy.

    Listeners are bound and keys are read by then, and nothing else of root's is needed.
    """

    def __init__(self, tls: TlsServer, owner: Owner) -> None:
        self._tls = tls
        self._owner = owner

    def privilegedStartService(self) -> None:
        """Give it, while we may."""
        super().privilegedStartService()
        path = self._tls.kept_at
        if path is None or not path.exists():
            return  # whoever made it has said why it could not be kept
        try:
            give(path.parent, path.name, self._owner)
        except OSError as e:
            log.warn(
                "{path} cannot be given to the user of --uid, who could not renew it: {why}",
                path=str(path),
                why=e.strerror or str(e),
            )


def give(directory: str | os.PathLike[str], name: str, owner: Owner) -> None:
    """Let a file belong to a user, and its directory, too, if there is nothing else in it.

    Whoever may write there already must not choose what is given away: no link is followed. Raises
    OSError.
    """
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(name, flags, dir_fd=opened)
        try:
            found = os.fstat(file)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
                raise OSError(f"{name} is no file, or has another name, too")
            os.fchown(file, *owner)
        finally:
            os.close(file)
        if os.listdir(opened) == [name]:
            os.fchown(opened, *owner)
    finally:
        os.close(opened)
