"""DNS that fails, is silent, babbles or is not there, beside clients who do not need it."""

import asyncio
import signal
from collections.abc import Sequence

from tests.chaos.case import ChaosTestCase
from tests.chaos.nameserver import NameServer
from tests.chaos.transfers import HTTP, Site
from tests.integration.programs import eventually
from whatsproxy.resolver import FAILED

#: Names below it are not in /etc/hosts: they are asked for.
DOMAIN = "asked.test"
NAMED = ("connect", "tls/connect", "upgrade", *HTTP)
#: Ways to what the operator has configured.
CHATS = ("whatsapp", "xmpp", "raw", "tls/whatsapp")


class DnsTests(ChaosTestCase):
    """The name server is a test's own, on the port that the sandbox's resolv.conf means."""

    def setUp(self) -> None:
        super().setUp()
        self.names = NameServer()
        self.background.run(self.names.start())
        self.addCleanup(lambda: self.background.run(self.names.stop()))
        self.asked = 0

    def start_proxy(self, chat: str = "g.whatsapp.net") -> None:
        options = ("--chat", f"{chat}:{self.origin}", "--allow", f"*.{DOMAIN}")
        self.carry(*options, config="timeouts.connect = 3")

    def site_of(self, label: str) -> Site:
        return Site(self.service.port, self.origin, self.trust, name=f"{label}.{DOMAIN}")

    def ask(self, labels: list[str], ways: Sequence[str] = NAMED) -> set[str]:
        """Ask for these names at the same time, on these ways; return how that ended."""

        async def together() -> set[str]:
            sites = [self.site_of(label) for label in labels]
            done = await asyncio.gather(
                *(site.carry(way, site.order(9, 9)) for site in sites for way in ways)
            )
            return {str(outcome.status or outcome.how) for (outcome,) in done}

        return self.background.run(together(), self.site.patience + 10)

    def answered_again(self, labels: list[str], what: str = "") -> None:
        """Wait until a failure is forgotten, and see that it does not last."""
        eventually(lambda: self.ask(labels) == {"complete"}, f"{what} is forgotten", 4 * FAILED)

    def test_failures(self) -> None:
        """502 for whoever asks, nothing for anybody else; held against the name for a moment."""
        self.start_proxy()
        for mood in ("failure", "nothing", "refusal", "garbled"):
            labels = [f"{mood}{i}" for i in range(8)]
            self.names.mood = mood
            with self.honest():
                # What cannot be read is waited for like silence.
                expected = {"502", "504"} if mood == "garbled" else {"502"}
                self.assertLessEqual(self.ask(labels), expected, mood)
            self.names.mood = "answer"
            self.answered_again(labels, mood)
        self.nothing_is_left()

    def test_silence(self) -> None:
        """Names that clients choose, however many, delay nobody's chat; and all of them end."""
        self.start_proxy()
        self.names.mood = "silence"
        with self.honest(ways=CHATS):
            for wave in range(4):
                labels = [f"silent{wave}-{i}" for i in range(250)]
                self.assertLessEqual(self.ask(labels, ["connect"]), {"502", "504"})
        self.names.mood = "answer"
        self.assertEqual({"complete"}, self.ask([f"silent0-{i}" for i in range(4)]))
        self.nothing_is_left()

    def test_silence_does_not_hold_up_the_end(self) -> None:
        self.start_proxy()
        self.names.mood = "silence"
        asking = asyncio.run_coroutine_threadsafe(
            asyncio.to_thread(self.ask, [f"late{i}" for i in range(60)]), self.background.loop
        )
        eventually(lambda: len(self.names.asked) > 20, "names are asked for")
        self.service.signal(signal.SIGTERM)
        self.assertEqual(0, self.service.wait(10))
        asking.result(10)
        self.assertNotIn("Traceback", self.service.output())

    def test_not_there(self) -> None:
        """Nobody listens where the name server should be; then it is back."""
        self.start_proxy()
        self.background.run(self.names.stop())
        with self.honest():
            self.assertEqual({"502"}, self.ask([f"gone{i}" for i in range(8)]))
        self.background.run(self.names.start())
        self.answered_again([f"gone{i}" for i in range(8)])
        self.nothing_is_left()

    def test_the_operators_own_name(self) -> None:
        """It is remembered for its TTL; without DNS it then fails, and works again with it."""
        self.names.ttl = 10
        self.start_proxy(f"chat.{DOMAIN}")
        self.names.mood = "failure"
        self.assertEqual("complete", self.transfer("whatsapp", self.site.order(9, 9))[0].how)

        def fails() -> bool:
            return self.transfer("whatsapp", self.site.order(9, 9))[0].how == "short"

        eventually(fails, "the address is forgotten", 15)
        self.assertIn("upstream_unresolved", self.service.ends())
        self.names.mood = "answer"

        def works() -> bool:
            return self.transfer("whatsapp", self.site.order(9, 9))[0].how == "complete"

        eventually(works, "the failure is forgotten", 4 * FAILED)
        with self.honest(ways=CHATS):
            pass
        self.nothing_is_left()
