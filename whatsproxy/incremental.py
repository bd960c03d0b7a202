"""What a parser of arriving bytes answers when it cannot decide yet.

Every parser here is a function of *all* the bytes so far and gives one of three answers: a value, a
verdict that it will never be one, or :class:`NeedMore`. Two laws hold, and tests/ prove them:

* a decision never changes when bytes are added, so every split of the input gives the same one;
* a parser that answered ``NeedMore(n)`` answers it again for every input shorter than ``n``, so the
  caller need not ask before (this bounds the work that a sender of single bytes can cause).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NeedMore:
    """No decision is possible before ``at_least`` bytes in all have arrived."""

    at_least: int
