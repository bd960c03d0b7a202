"""The tests: trial finds them here; what several of them need is in builders.py."""

import atexit
import os
import shutil
import tempfile

from hypothesis import HealthCheck, settings

# A deadline would make a slow machine a failure. In continuous integration every run is the same;
# elsewhere each looks at new examples.
settings.register_profile(
    "whatsproxy",
    deadline=None,
    max_examples=60,
    derandomize="CI" in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("whatsproxy")

# Certificates that are made on the way are left behind in nobody's cache.
os.environ["CACHE_DIRECTORY"] = tempfile.mkdtemp(prefix="whatsproxy-tests-")
atexit.register(shutil.rmtree, os.environ["CACHE_DIRECTORY"], ignore_errors=True)
