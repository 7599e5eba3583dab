"""How long an answer may take, and what each stage is known to cost.

A running stage cannot be stopped, so a stage is begun only where what is left covers what it
usually takes; what is skipped is named in the answer. Steps down: part of the candidates ranked,
none ranked, popularity.
"""

import time
from dataclasses import dataclass, field
from typing import Self

from serving.errors import DeadlineExceeded

MARGIN = 1.5
"""A stage is begun where this many times its usual duration is left."""
LEARN = 0.1
"""Weight of the latest duration in the usual one."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock, in nanoseconds."""

    at: int

    @classmethod
    def after(cls, milliseconds: float) -> Self:
        """So much time from now."""
        return cls(time.monotonic_ns() + int(milliseconds * 1e6))

    def left(self) -> int:
        """Nanoseconds; negative once it has passed."""
        return self.at - time.monotonic_ns()

    def refuse_passed(self) -> None:
        """Raise DeadlineExceeded where nothing can be answered in time."""
        if (left := self.left()) <= 0:
            raise DeadlineExceeded(f"the deadline passed {-left / 1e6:.1f} ms before work began")


@dataclass(slots=True)
class Costs:
    """Usual durations of stages, nanoseconds: a moving mean. Shared by threads; a lost update only
    delays what is learnt.
    """

    usual: dict[str, float] = field(default_factory=dict)

    def fits(self, stage: str, deadline: Deadline, *, amount: float = 1.0) -> bool:
        """Whether `amount` units of a stage can be expected to end before the deadline."""
        left = deadline.left()
        return left > 0 and self.usual.get(stage, 0.0) * amount * MARGIN <= left

    def learn(self, stage: str, started: int, *, amount: float = 1.0) -> None:
        """Count a stage that began at `started` (monotonic nanoseconds) and ends now."""
        took = (time.monotonic_ns() - started) / max(amount, 1e-9)
        before = self.usual.get(stage)
        self.usual[stage] = took if before is None else before + LEARN * (took - before)
