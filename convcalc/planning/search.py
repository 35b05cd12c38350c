"""The largest number whose need fits: steps along a nearly straight line, inside a bracket."""

from __future__ import annotations

from collections.abc import Callable, Iterable

#: Steps by `guess`; after as many the bracket is halved instead.
GUESSES = 12


def largest(
    need: Callable[[int], int],
    memory: int,
    guess: Callable[[int], int],
    start: int = 1,
    known: Iterable[int] = (),
) -> int:
    """The number n of at least 1 with ``need(n) <= memory < need(n + 1)``; 0: not even 1 fits.

    ``guess(n)`` proposes a next number from what is known at n.  It decides how many steps it
    takes, never the answer.  Where needs do not grow everywhere the answer is one such n.
    `known` are numbers whose need costs nothing more.
    """
    good = max((n for n in known if need(n) <= memory), default=0)
    bad = min((n for n in known if n > good), default=0)
    at, turn, step = max(start, 1), 0, 1
    if bad and good:
        at = good
    while not bad or bad - good > 1:
        if turn > GUESSES and bad:
            at = (good + bad) // 2
        elif turn or good:
            proposed = guess(at)
            if proposed <= good:
                proposed, step = good + step, 2 * step
            elif bad and proposed >= bad:
                proposed, step = bad - step, 2 * step
            at = max(good + 1, min(proposed, bad - 1) if bad else proposed)
        else:
            at = max(good + 1, min(at, bad - 1) if bad else at)
        if need(at) <= memory:
            good = at
        else:
            bad = at
        turn += 1
    return good
