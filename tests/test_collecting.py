"""The collector: what the service changes of it, and that it is put back."""

import gc

from twisted.trial.unittest import SynchronousTestCase

from whatsproxy.collecting import THRESHOLDS, Collecting


class CollectingTests(SynchronousTestCase):
    def test_from_start_to_stop(self) -> None:
        before = gc.get_threshold()
        self.addCleanup(gc.set_threshold, *before)
        self.addCleanup(gc.unfreeze)
        service = Collecting()
        self.assertEqual(gc.get_threshold(), before)
        service.startService()
        self.assertEqual(gc.get_threshold(), THRESHOLDS)
        self.assertGreater(gc.get_freeze_count(), 10_000)
        service.stopService()
        self.assertEqual((gc.get_threshold(), gc.get_freeze_count()), (before, 0))
