"""The [train.life] settings: what an outcome model learns, and how its documents are varied."""

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeTraining:
    """Pre-training or fine-tuning of an outcome model; the defaults are life2vec's where it has
    one, but for `sampler` (there both sampler and loss balance the classes).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    task: Literal["outcomes", "pretraining"] = "outcomes"
    """pretraining: masked tokens and the order of events, no labels; start fine-tuning from its run
    with `start_from`."""
    sampler: Literal["all", "balanced"] = "all"
    """balanced: draws as many cases of every class of the first outcome. Use with a loss that does
    not balance too."""
    masked: float = 0.3
    """Pre-training: share of the tokens to predict; 80 % masked, 10 % another token, 10 % kept."""
    reversed: float = 0.05
    """Pre-training: share of the documents whose events are told backwards."""
    shuffled: float = 0.05
    """Pre-training: share of the documents whose events are told in random order."""
    thinned: float = 0.4
    """Share of the training documents that lose a quarter to half of their events."""
    jittered: float = 0.1
    """Share of the training documents whose first clock is off by up to 5 units."""
    background_hidden: float = 0.01
    """Share of the training documents without background."""
    token_dropped: float = 0.01
    """Share of the events that lose a token."""
    redraw_epochs: int = 1
    """Random features are drawn anew every so many epochs; 0: never."""
    max_cases: int = 0
    """Training cases drawn at random, where there are more; 0 takes all."""

    def __post_init__(self) -> None:
        shares = ("masked", "reversed", "shuffled", "thinned", "jittered", "background_hidden")
        for name in (*shares, "token_dropped"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is not in 0..1")
        if self.reversed + self.shuffled > 1:
            raise ValueError(
                f"reversed={self.reversed} and shuffled={self.shuffled} exceed 1 together"
            )
        if self.redraw_epochs < 0 or self.max_cases < 0:
            raise ValueError(
                f"redraw_epochs={self.redraw_epochs} or max_cases={self.max_cases} is negative"
            )
