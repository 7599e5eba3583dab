"""How much work each stage of a pipeline does: counts of what its time and its memory grow with.

A stage's processor seconds are modelled as a sum over its work, each kind at a measured price
(`recsys.planning.costs`). What is counted follows from what the stage does; products are counted in
multiplications and additions (FLOPs).
"""

from collections.abc import Mapping
from dataclasses import dataclass

STAGES = ("data", "features", "train", "export", "score")
APPROXIMATE_FROM = 50_000
"""Items from which a bundle also holds an approximate index (`serving.index`)."""
SHARD = 100_000
"""Users of a source file of `recsys score` that memory is planned for."""
PART = 1_500_000
"""Events of a part of `recsys data` (`data.parts`) that memory is planned for."""
VALIDATED, RANKED = 10_000, 50_000
"""Users of a validation of a training, and whose candidates train LightGBM, at most."""
Work = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A SASRec pipeline in numbers: log, catalogue, model, and what is asked of it."""

    users: int
    items: int
    history: float = 50.0
    """Events a user, mean."""
    max_len: int = 50
    dim: int = 64
    num_blocks: int = 2
    epochs: int = 20
    negatives: int = 256
    """Of sampled softmax; 0: softmax over the catalogue."""
    batch_size: int = 128
    k: int = 100
    """Items listed a user."""
    candidates: int = 0
    """Items a user that LightGBM ranks; 0: no ranker."""

    def __post_init__(self) -> None:
        for name in ("users", "items", "max_len", "dim", "num_blocks", "epochs", "batch_size", "k"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name} = {value} must be at least 1")
        if self.history < 1 or self.negatives < 0 or self.candidates < 0:
            raise ValueError(
                f"history = {self.history} must be at least 1; negatives = {self.negatives} and "
                f"candidates = {self.candidates} at least 0"
            )

    @property
    def events(self) -> float:
        """Events of the log."""
        return self.users * self.history

    @property
    def tokens(self) -> float:
        """Positions that the encoder sees for all users once."""
        return self.users * min(self.history, self.max_len)

    @property
    def encoder(self) -> float:
        """FLOPs of encoding every user once: projections, feed-forward, and attention."""
        length = min(self.history, self.max_len)
        return 2 * self.tokens * self.num_blocks * (6 * self.dim**2 + 2 * length * self.dim)

    def time_of(self, stage: str) -> Work:
        """The work of a stage that its processor time is made of."""
        return {"start": 1.0, **self._time()[stage]}

    def _time(self) -> Mapping[str, Work]:
        search = 2.0 * self.users * self.items * self.dim
        steps = self.epochs * self.users / self.batch_size
        scored = self.tokens * (self.negatives or self.items) * self.dim
        return {
            "data": {"events": self.events},
            "features": {"events": self.events, "items": self.items},
            "train": {
                "tokens": self.epochs * self.tokens,
                "encoder": 3 * self.epochs * self.encoder,
                "loss": 6 * self.epochs * scored,
                "steps": steps,
                "weights": steps * self.items * self.dim,
                "search": self.epochs * search * min(1.0, VALIDATED / self.users),
            },
            "export": {
                "events": self.events,
                "items": self.items,
                "indexed items": float(self.items) if self.items > APPROXIMATE_FROM else 0.0,
                "ranked items": min(self.users, RANKED) * self.candidates,
            },
            "score": {
                "events": self.events,
                "users": float(self.users),
                "encoder": self.encoder,
                "search": search,
                "listed items": self.users * self.k,
                "ranked items": self.users * self.candidates,
            },
        }

    def memory_of(self, stage: str) -> Work:
        """The work of a stage that its peak memory is made of."""
        vectors = float(self.items * self.dim)
        shard = min(self.users, SHARD) * self.history
        part = min(self.events, PART)
        sizes: Mapping[str, Work] = {
            "data": {"part events": part, "users": float(self.users)},
            "features": {
                "part events": part,
                "users": float(self.users),
                "items": float(self.items),
            },
            "train": {"events": self.events, "users": float(self.users), "vectors": vectors},
            "export": {"events": self.events, "vectors": vectors, "items": float(self.items)},
            "score": {"shard events": shard, "vectors": vectors, "items": float(self.items)},
        }
        return {"start": 1.0, **sizes[stage]}
