"""How many tokens a text model reads a second, and how many of them are padding."""

import time
from dataclasses import dataclass, field

from torch import Tensor

from recsys.models.bucketed import buckets, sequence_lengths, tokens_at_once


@dataclass(slots=True)
class TokenCount:
    """Counts from one validation to the next."""

    real: int = 0
    """Tokens that were read."""
    padded: int = 0
    """The same, and what fills shorter sequences beside longer ones."""
    naive: int = 0
    """The same, were a step's sequences all padded to the longest of them."""
    since: float = field(default_factory=time.monotonic)

    def add(self, token_items_BT: Tensor | None, max_tokens: int) -> None:
        """Count the sequences of a forward pass, bucketed as `encode_tokens` does it."""
        assert token_items_BT is not None
        lengths = sequence_lengths(token_items_BT).clamp(max=max_tokens).sort().values.tolist()
        self.real += sum(lengths)
        parts = buckets(lengths, tokens_at_once(token_items_BT))
        self.padded += sum((part.stop - part.start) * lengths[part.stop - 1] for part in parts)
        self.naive += len(lengths) * lengths[-1]

    def take(self) -> dict[str, float]:
        """Tokens a second, and the share of padding, with and without buckets; starts anew."""
        seconds = max(time.monotonic() - self.since, 1e-9)
        figures = {
            "tokens_per_second": self.real / seconds,
            "padding": 1 - self.real / max(self.padded, 1),
            "padding_unbucketed": 1 - self.real / max(self.naive, 1),
        }
        self.real = self.padded = self.naive = 0
        self.since = time.monotonic()
        return figures
