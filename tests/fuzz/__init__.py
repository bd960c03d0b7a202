"""Coverage-guided fuzzing: targets with their laws, a corpus for each, and who runs them.

The targets are plain functions of bytes, so that the suite replays every corpus without a fuzzer
(tests/test_fuzz_corpus.py); run.py lets atheris look for more.
"""
