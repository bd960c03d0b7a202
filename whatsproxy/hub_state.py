"""What the states of sockets on the hub, and epoll's events, are made of: bits."""

from twisted.internet import main
from twisted.internet.error import ConnectionAborted
from twisted.python.failure import Failure

PAUSED = 1  # its protocol does not want to read
EOF = 2  # the peer's FIN was read
ENDING = 4  # our direction ends behind what is buffered
ENDED = 8  # our FIN is out
LOSING = 16  # closes behind what is buffered
DEAD = 32  # to be closed at once
GONE = 64  # closed
LOOKING = 128  # shows what arrives and leaves it in the kernel
READY = 256  # there may be something to be read, of which no event will tell
STOPPED = 512  # the producer is paused
BULK = 1024  # the last read filled what it was given
RESET = 2048  # dead, because the peer has broken off
ABORTED = 4096  # dead, because we have
BROKEN = 8192  # the peer has broken off; what it sent before that may still be there
# hub_tls has more, from 1 << 16 on.

# Several at once, put together here and not each time.
OVER = DEAD | GONE
CLOSING = LOSING | OVER
DEAF = PAUSED | EOF | CLOSING
UNREAD = DEAF | LOOKING
MUTE = ENDING | ENDED | CLOSING
FOLLOWED = ENDING | LOSING  # something follows what is buffered
PARTED = ENDED | EOF | RESET  # to close breaks nothing off
NOT_BULK = ~BULK

# select's events, as numbers: EPOLLIN is 0x1, EPOLLPRI 0x2, EPOLLOUT 0x4, EPOLLERR 0x8, EPOLLHUP
# 0x10, EPOLLRDHUP 0x2000 (on all of Linux).
OUT = 0x4
ERR = 0x8
PRI = 0x2  # urgent data (tcp(7)): a read ends in front of it, whatever is behind it
NO_MORE_TO_COME = 0x8 | 0x10 | 0x2000
MORE_BEHIND = NO_MORE_TO_COME | PRI
TO_BE_READ = 0x1 | PRI | NO_MORE_TO_COME
TO_BE_WRITTEN = OUT | 0x8 | 0x10

# How a connection ends, as its protocol hears of it.
CONNECTION_ABORTED = Failure(ConnectionAborted())
CONNECTION_DONE = Failure(main.CONNECTION_DONE)
CONNECTION_LOST = Failure(main.CONNECTION_LOST)
