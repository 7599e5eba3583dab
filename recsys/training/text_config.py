"""How Recformer is trained: what of it, and where it departs from what the authors' scripts do."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStageConfig:
    """Algorithm 1: train against item vectors encoded anew each epoch, then against the best ones.

    `max_epochs`, `patience` and `epochs_per_validation` of [train] are those of the first stage.
    """

    __pydantic_config__ = STRICT

    name: Literal["two-stage"] = "two-stage"
    contrast_epochs: int = 0
    """Epochs of pre-training on this very dataset before, for weights that know no language yet:
    against fixed vectors that are all alike, as those of new weights are, nothing is learned."""
    contrast_masked_weight: float = 0.1
    """Of masked tokens in those epochs (`masked_weight` of pre-training); 0 takes half the time."""
    encode_every: int = 1
    """Epochs of the first stage between two encodings of all items."""
    second_epochs: int = 0
    """Epochs of the second stage, at most; 0: as many as `max_epochs`."""
    second_patience: int = 3
    """Of the second stage. The published script stops after 3, the first stage after 5."""
    second_stage: bool = True
    empty_histories: bool = False
    """Draw the target among all events of a history, as the published script does: in one sample
    of n it is the first one, and nothing comes before it. Otherwise among all but the first."""
    freeze_words: bool = False
    """Leave the word table as it is."""

    def __post_init__(self) -> None:
        if self.encode_every < 1 or self.second_patience < 1:
            raise ValueError(
                f"encode_every={self.encode_every} and second_patience={self.second_patience} must "
                f"be at least 1"
            )
        for name in ("second_epochs", "contrast_epochs", "contrast_masked_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingConfig:
    """Contrast of histories with their next items, and masked tokens, on several datasets at once.

    The dataset of `recsys train --dataset` only validates: its items and validation cases, of a
    domain that is not trained on, choose the weights.
    """

    __pydantic_config__ = STRICT

    name: Literal["pre-training"] = "pre-training"
    datasets: tuple[str, ...]
    """Dataset directories to learn from, all of one tokenizer."""
    masked_weight: float = 0.1
    """The paper's lambda, of masked tokens of the history and of the item each. 0: none."""
    masked_share: float = 0.15
    """Of words: masked and named."""
    keep_duplicates: bool = False
    """Contrast a history also with other occurrences of its own target in the batch, as published;
    otherwise they are left out."""
    freeze_words: bool = False
    """Leave the word table as it is, as published for Longformer's."""
    epoch_steps: int = 0
    """Steps of an epoch, after which it is validated; 0: as many as show every history once."""

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("datasets is empty: name at least one directory to learn from")
        if not 0 < self.masked_share < 1 or self.masked_weight < 0 or self.epoch_steps < 0:
            raise ValueError(
                f"masked_share={self.masked_share} must lie in 0..1, masked_weight="
                f"{self.masked_weight} and epoch_steps={self.epoch_steps} be at least 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroShotConfig:
    """No training: the weights of `start_from` as they are, on this dataset's items."""

    __pydantic_config__ = STRICT

    name: Literal["zero-shot"] = "zero-shot"


TextConfig = Annotated[
    TwoStageConfig | PretrainingConfig | ZeroShotConfig, Field(discriminator="name")
]
