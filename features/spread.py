"""Pieces of one work, done here one after the other, or elsewhere side by side.

A spread takes a function and its pieces and gives the results in the order of the pieces. Whoever
uses one keeps the journal: function and pieces may travel to another process, so they hold paths
and settings, and leave their results in files.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Spread(Protocol):
    """Where pieces are done."""

    def __call__(
        self, function: Callable[[Piece], Result], pieces: Sequence[Piece]
    ) -> Iterator[Result]:
        """The result of every piece, in order; raises what a piece raised."""
        ...


def in_turn(function: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[Result]:
    """One after the other in this process."""
    return map(function, pieces)
