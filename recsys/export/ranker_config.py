"""The [export.ranker] settings: how the second stage is trained."""

from dataclasses import dataclass
from typing import Literal

from pydantic import ConfigDict


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerConfig:
    """LightGBM LambdaRank over the features of `features.asof`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    max_trees: int = 300
    """Boosting rounds, at most; serving time is proportional to the trees that are kept."""
    patience: int = 30
    """Stop after this many rounds without a better NDCG@10 of the held-out cases."""
    learning_rate: float = 0.05
    num_leaves: int = 15
    """Leaves a tree."""
    min_leaf: int = 50
    """Training rows a leaf, at least."""
    l2: float = 50.0
    """Shrinks leaves that few rows support."""
    feature_fraction: float = 0.8
    """Share of the features that each tree may use."""
    negatives: int = 300
    """Candidates a training case beside its targets, drawn at random; held-out cases keep all."""
    max_cases: int = 50_000
    """Validation cases used, at most, drawn at random; bounds memory and time."""
    held_out: float = 0.2
    """Share of the cases that only measure and stop."""
    features: Literal["basic", "all"] | tuple[str, ...] = "basic"
    """Ranking features: those of `features.asof`, all that there are, or a list of names. Each
    costs time in every request; the bundle keeps the names."""
    persons: str = ""
    """A bundle of an outcome model: its vector of the person behind the history is a feature too,
    `person_0` and so on. Its outcome windows should end before the validation cases begin."""
    label_delay_days: int = 0
    """Days after which an event is known to the item statistics, beside the rest of its day."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(
                f"held_out={self.held_out} must lie between 0 and 1: it is a share of the cases"
            )
        for name in ("max_trees", "patience", "min_leaf", "negatives", "max_cases"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value} must be at least 1")
        if self.label_delay_days < 0:
            raise ValueError(f"label_delay_days={self.label_delay_days} must not be negative")
        if self.num_leaves < 2:
            raise ValueError(f"num_leaves={self.num_leaves} must be at least 2: one is no tree")
