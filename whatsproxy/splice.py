"""Moving bytes from one socket to another inside the kernel, by way of a pipe (splice(2))."""

import errno
import fcntl
import os

from twisted.logger import Logger

from whatsproxy.descriptors import KEPT, below

#: Bytes that a pipe is asked to hold. It holds references to what the network card or the peer has
#: written, so more is often less: the pages are recycled while they are still in the cache.
PIPE_SIZE = 256 * 1024

#: Bytes of a pipe that is worth having (fs.pipe-user-pages-soft may be used up).
WORTHWHILE = 64 * 1024
#: How a system says that it does not splice at all, or not these: an old one, or a sandbox.
_REFUSALS = (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP)
#: Pipes that are kept while nobody has them: all but stalled streams give theirs back at once.
SPARE = 4

log = Logger()

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK if hasattr(os, "splice") else 0


class Pipe:
    """A pipe with ``held`` bytes in it."""

    __slots__ = ("_in", "_out", "held", "size")

    def __init__(self) -> None:
        """Raises OSError."""
        self._out, self._in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.held = 0
        try:
            self.size = fcntl.fcntl(self._in, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:  # fs.pipe-user-pages-soft, or a smaller fs.pipe-max-size
            self.size = fcntl.fcntl(self._in, fcntl.F_GETPIPE_SZ)

    @property
    def spared(self) -> bool:
        """Whether there are descriptors left beside this one's but for those that are kept."""
        return below(max(self._in, self._out), KEPT)

    def fill(self, source: int, most: int) -> int:
        """Take from a socket what there is and fits; 0 is the end of it. Raises OSError.

        Not a byte beyond ``most`` is taken.
        """
        size = os.splice(source, self._in, self.size if self.size < most else most, flags=_FLAGS)
        self.held += size
        return size

    def empty(self, sink: int) -> bool:
        """Give a socket what it takes; the answer is whether that was all. Raises OSError."""
        try:
            while self.held:
                self.held -= os.splice(self._out, sink, self.held, flags=_FLAGS)
        except BlockingIOError:
            return False
        return True

    def rest(self) -> bytearray:
        """Return what is in it, which leaves it empty."""
        data = bytearray()
        while self.held:
            piece = os.read(self._out, self.held)
            data += piece
            self.held -= len(piece)
        return data

    def close(self) -> None:
        """Let go of it, and of what is in it."""
        os.close(self._in)
        os.close(self._out)


class PipePool:
    """At most ``most`` pipes, each borrowed while bytes are on their way through it.

    An empty pool means copying, never waiting.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: list[Pipe] = []
        #: Pipes that somebody has.
        self.lent = 0

    def borrow(self) -> Pipe | None:
        """Return an empty pipe, or None where there is none to be had."""
        if self.lent >= self._most:
            return None
        if self._idle:
            self.lent += 1
            return self._idle.pop()
        try:
            pipe = Pipe()
        except OSError:  # no descriptors
            return None
        if not pipe.spared or pipe.size < WORTHWHILE:
            pipe.close()
            return None
        self.lent += 1
        return pipe

    @property
    def scarce(self) -> bool:
        """Whether whoever does not need a pipe for what follows at once should give it back."""
        return 2 * self.lent > self._most

    def is_refusal(self, error: OSError) -> bool:
        """Tell whether there is no splicing here at all; then there is none from now on."""
        if error.errno not in _REFUSALS:
            return False
        if self._most:
            log.warn("no splice(2): {why}; bytes are copied", why=error.strerror)
        self._most = 0
        return True

    def give_back(self, pipe: Pipe) -> None:
        """Take a pipe back; one with something in it, or one too many, is closed."""
        self.lent -= 1
        if pipe.held or len(self._idle) >= SPARE:
            pipe.close()
        else:
            self._idle.append(pipe)

    def shrink(self) -> None:
        """Close the pipes that nobody has."""
        while self._idle:
            self._idle.pop().close()
