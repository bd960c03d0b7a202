"""Networks that the settings list, in themselves and in files that are read anew."""

from collections.abc import Sequence

from twisted.logger import Logger

from whatsproxy.files import Stamp, read_file, stamp, why
from whatsproxy.listen_codecs import FILE_PREFIX
from whatsproxy.networks import Networks, parse_list, parse_network

#: Bytes of a file: some 250,000 networks, which take about a second.
SIZE_LIMIT = 4 << 20

log = Logger()


class ListError(Exception):
    """A list cannot be read; ``str()`` says in one line which, and why."""


class NetworkList:
    """The networks of one key (a Loadable). Until ``load`` has been called no address is in it."""

    error = ListError

    def __init__(self, key: str, sources: Sequence[str]) -> None:
        #: The key: for the log and the metrics.
        self.name = key
        self._given = [s for s in sources if not s.startswith(FILE_PREFIX)]
        self._paths = [s.removeprefix(FILE_PREFIX) for s in sources if s.startswith(FILE_PREFIX)]
        self._loaded: list[Stamp] = []
        self._networks = Networks()
        self._count = 0

    def __contains__(self, number: int) -> bool:
        return number in self._networks

    def load(self) -> None:
        """Read all files anew. Raises ListError, and keeps what it had."""
        self._loaded = [stamp(path) for path in self._paths]  # of now: what changes is read again
        networks = [parse_network(text) for text in self._given]
        for path in self._paths:
            try:
                networks += parse_list(read_file(path, SIZE_LIMIT).decode("utf-8-sig"))
            except OSError as e:
                raise ListError(f"{path}: cannot be read: {why(e)} ({self.name})") from None
            except UnicodeDecodeError:
                raise ListError(f"{path}: is no text ({self.name})") from None
            except ValueError as e:
                raise ListError(f"{path}: {e} ({self.name})") from None
        self._networks = Networks(networks)
        self._count = len(networks)

    def changed(self) -> bool:
        """Whether load would find other files than it found."""
        return [stamp(path) for path in self._paths] != self._loaded

    def announce(self) -> None:
        """Say how many there are."""
        if self._paths:
            log.info("{key}: {count} networks", key=self.name, count=self._count)
