"""What fuzzing has found is kept: every input of every corpus, once more, without a fuzzer."""

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import plant
from tests.fuzz.target import Plant, corpus_of, load, names


class CorpusTests(SynchronousTestCase):
    def test_every_input_keeps_the_laws(self) -> None:
        for name in names():
            target = load(name)
            if target.shares:
                continue  # another one's corpus, which needs the reactor besides
            files = corpus_of(name)
            self.assertGreater(len(files), 5, name)
            for path in files:
                try:
                    target.check(path.read_bytes())
                except Exception as e:
                    self.fail(f"{name}: {path}: {e!r}")

    def test_they_are_small(self) -> None:
        sizes = [path.stat().st_size for name in names() for path in corpus_of(name)]
        self.assertLess(sum(sizes), 1 << 20)
        self.assertLess(len(sizes), 2000)


class PlantTests(SynchronousTestCase):
    """That they are found is seen by ``make fuzz-plant``; here, that they still can be planted."""

    def test_each_target_has_bugs_that_fit_the_program(self) -> None:
        for name in names():
            plants = load(name).plants
            self.assertTrue(plants, name)
            for each in plants:
                text = (plant.ROOT / "whatsproxy" / each.file).read_text(encoding="utf-8")
                self.assertEqual(text.count(each.old), 1, f"{name}: {each}")
                self.assertNotEqual(each.old, each.new)

    def test_one_that_does_not_fit(self) -> None:
        with self.assertRaisesRegex(plant.PlantError, "0 times"):
            plant.planted(Plant("sniff.py", "no such line", ""), plant.Path(self.mktemp()))
