"""The [train.playlist] settings: what a playlist model starts from, and in which stages it learns.

No torch and no gensim here, so that any config may be read anywhere.
"""

from dataclasses import dataclass, field

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipGramConfig:
    """Song vectors to start from; 0 epochs starts from random ones."""

    __pydantic_config__ = STRICT

    epochs: int = 5
    window: int = 5
    """Songs to each side that a song is to predict."""
    negatives: int = 5
    """Songs drawn against each."""
    min_count: int = 1
    """Songs played less often get no vector."""
    subsample: float = 1e-3
    """Songs of a greater share of all plays are left out now and then; 0 never does."""

    def __post_init__(self) -> None:
        least = {"epochs": 0, "window": 1, "negatives": 1, "min_count": 1, "subsample": 0}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsConfig:
    """Tuning on two parts of one playlist, after the autoencoder; 0 epochs leaves it out."""

    __pydantic_config__ = STRICT

    epochs: int = 0
    patience: int = 3
    """Validations in a row without a better NDCG@10 of continuation."""
    temperature: float = 0.1
    """Cosines of parts are divided by it."""
    song_weight: float = 1.0
    """Of finding the songs of the other part, beside telling it from other playlists' parts."""
    learning_rate: float = 1e-3
    alike: float = 0.5
    """Two playlists that share more than this share of the smaller one are no negatives of each
    other: they may be two states of one playlist."""

    def __post_init__(self) -> None:
        if self.epochs < 0 or self.patience < 1:
            raise ValueError(f"epochs={self.epochs} is negative, or patience={self.patience} is 0")
        if self.temperature <= 0 or self.learning_rate <= 0 or self.song_weight < 0:
            raise ValueError(
                f"temperature={self.temperature} and learning_rate={self.learning_rate} must be "
                f"above 0, song_weight={self.song_weight} not below"
            )
        if not 0 < self.alike <= 1:
            raise ValueError(f"alike={self.alike} is not in 0..1")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaylistTraining:
    """How `playlist_seq2seq` and `playlist_bow` are trained."""

    __pydantic_config__ = STRICT

    skip_gram: SkipGramConfig = field(default_factory=SkipGramConfig)
    autoencoder: bool = True
    """The first stage, `max_epochs` long; its score is minus the nats a token of held-out
    playlists. Without it only the parts are learned."""
    parts: PartsConfig = field(default_factory=PartsConfig)
