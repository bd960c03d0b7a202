"""The running service under faults on purpose, and under load with them: too slow for every day.

``make chaos`` runs the modules called chaos_*, which trial does not find by itself; ``make soak``
runs soak. docs/reliability.md says what is tried.
"""
