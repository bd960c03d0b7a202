"""Run with ``twistd -ny etc/whatsproxy.tac``: the service, configured by a file.

The file is the one that WHATSPROXY_CONFIG names, or else whatsproxy.toml beside this one.
"""

import os

from whatsproxy.tap import make_application

beside = os.path.join(os.path.dirname(os.path.abspath(__file__)), "whatsproxy.toml")
application = make_application(os.environ.get("WHATSPROXY_CONFIG") or beside)
