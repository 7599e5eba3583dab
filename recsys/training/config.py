"""How one model is optimised; its sizes and the data have their own configuration."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from recsys.training.life_config import LifeTraining
from recsys.training.playlist_config import PlaylistTraining
from recsys.training.task_config import TaskConfig, check_tasks
from recsys.training.text_config import TextConfig, TwoStageConfig

STRICT = ConfigDict(extra="forbid")

Sampling = Literal["uniform", "popularity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FullSoftmaxConfig:
    """Cross-entropy over the whole catalogue: the reference up to some 10,000 items."""

    __pydantic_config__ = STRICT

    name: Literal["full_softmax"] = "full_softmax"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledSoftmaxConfig:
    """Cross-entropy over the target and a sample that the whole batch shares, with logQ."""

    __pydantic_config__ = STRICT

    name: Literal["sampled_softmax"] = "sampled_softmax"
    negatives: int = 256
    """Sampled items a step."""
    sampling: Sampling = "uniform"


@dataclass(frozen=True, slots=True, kw_only=True)
class GBCEConfig:
    """Binary cross-entropy against a shared sample, made less overconfident (gSASRec)."""

    __pydantic_config__ = STRICT

    name: Literal["gbce"] = "gbce"
    negatives: int = 256
    """Sampled items a step, uniform."""
    calibration: float = 0.75
    """The paper's t: 0 is plain BCE, 1 makes scores probabilities."""

    def __post_init__(self) -> None:
        if not 0 <= self.calibration <= 1:
            raise ValueError(f"calibration={self.calibration} is not in 0..1")


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoConfig:
    """`full_softmax` for a catalogue that it suits, `sampled_softmax` for a larger one."""

    __pydantic_config__ = STRICT

    name: Literal["auto"] = "auto"
    full_up_to: int = 100_000
    """Items of the largest catalogue that every target is compared with as a whole."""
    negatives: int = 4_096
    """Sampled items a step beyond it."""
    sampling: Sampling = "popularity"

    def __post_init__(self) -> None:
        if self.negatives < 1 or self.full_up_to < 1:
            raise ValueError(
                f"negatives={self.negatives} and full_up_to={self.full_up_to} must be at least 1"
            )

    def for_catalogue(self, num_items: int) -> FullSoftmaxConfig | SampledSoftmaxConfig:
        """What a catalogue of `num_items` is trained with."""
        if num_items <= self.full_up_to:
            return FullSoftmaxConfig()
        return SampledSoftmaxConfig(
            negatives=min(self.negatives, num_items), sampling=self.sampling
        )


ObjectiveConfig = Annotated[
    AutoConfig | FullSoftmaxConfig | SampledSoftmaxConfig | GBCEConfig,
    Field(discriminator="name"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingConfig:
    """What a ranker learns from: moments of the histories, and items that were not chosen then."""

    __pydantic_config__ = STRICT

    negatives: int = 4
    """Items a target that it is compared with."""
    sampling: Sampling = "popularity"
    """Of the training events, or each item as likely as any other."""
    reject: Literal["future", "ever"] = "future"
    """Never a negative: an item that the user chooses later, or one that they ever choose. In
    training this knows the training part only; in validation and test the whole history."""
    targets_per_user: int = 20
    """Moments a user, the most recent ones; 0: all."""
    stride: int = 1
    """Target events from one moment to the next: 5 takes every fifth."""
    min_history: int = 1
    """Events before a moment, at least."""
    simultaneous: Literal["order", "hidden"] = "order"
    """Events at the very time of the target: those before it in the log belong to its history, or
    none does (for logs that know only the day)."""
    tasks: tuple[TaskConfig, ...] = ()
    """What to predict, for models of several tasks; empty: the target behaviours, as one task."""
    shown: str = ""
    """Behaviour that stands for an impression: each is an example, and `negatives` may be 0. Empty:
    the log has none."""
    label_seconds: float = 0.0
    """A label is 1 where the task's behaviour follows on the same item with no pause longer than
    this; 0: at the very time of the meeting only."""
    list_size: int = 50
    """Impressions of one moment that are scored together; longer lists are cut."""
    watch_gradients: bool = False
    """Log the cosine of the tasks' gradients at every validation."""

    def __post_init__(self) -> None:
        check_tasks(self.tasks)
        least_negatives = 0 if self.shown else 1
        for name, least in (
            ("negatives", least_negatives),
            ("targets_per_user", 0),
            ("stride", 1),
            ("list_size", 1),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        for name in ("min_history", "label_seconds"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0")
        if self.shown and not self.tasks:
            raise ValueError(f"shown={self.shown!r} needs tasks: what follows an impression?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardConfig:
    """Tables whose rows are dealt out over the processes of a `torchrun`, and what moves them.

    Not the optimizer of the rest: it works inside the backward pass, on the touched rows alone.
    """

    __pydantic_config__ = STRICT

    optimizer: Literal["sgd", "rowwise_adagrad"] = "rowwise_adagrad"
    learning_rate: float = 0.05
    """Of the tables; constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The optimisation of one run."""

    __pydantic_config__ = STRICT

    objective: ObjectiveConfig = field(default_factory=AutoConfig)
    """Of a retriever; a ranker has its own loss."""
    ranking: RankingConfig = field(default_factory=RankingConfig)
    """Of a ranker; a retriever does not read it."""
    life: LifeTraining = field(default_factory=LifeTraining)
    """For outcome models, which have no `objective`, `windows`, `targets` or `horizon`."""
    batch_size: int = 128
    """Windows (a ranker: moments, an outcome model: cases) a step and device."""
    windows: Literal["last", "all"] = "last"
    """Of a history longer than the model's max_len: its last events, or windows over all of it."""
    targets: Literal["all", "target_events"] = "all"
    """Which events the model learns to predict: every one, or the dataset's target behaviours."""
    horizon: int = 1
    """The target of a position is drawn from this many events after it. 1: the next event. More
    suits a test of everything a user does for weeks, at the price of the very next event."""
    max_epochs: int = 100
    learning_rate: float = 1e-3
    """Of Adam."""
    decay_to: float = 1.0
    """Share of the learning rate left after `max_epochs`, by cosine decay; 1 keeps it constant."""
    decay_epochs: int = 0
    """The decay takes this many epochs at the end; 0: all of them."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 0.0
    """Decoupled (AdamW)."""
    clip_norm: float = 0.0
    """Largest norm of the whole gradient; 0 does not clip."""
    shard: ShardConfig | None = None
    """Given: a ranker with `tables = "torchrec"` is trained with its tables dealt out, under
    `torchrun`. None: every process holds the whole model."""
    epochs_per_validation: int = 1
    patience: int = 10
    """Stop after this many validations in a row without a better score (retrievers: NDCG@10)."""
    repeats: bool = False
    """Whether validation may recommend items of the history again (retrievers): give the value
    that `export.policy.exclude_seen` contradicts, so that what is chosen is what will be served."""
    validation_users: int = 10_000
    """Users drawn for validation, where there are more."""
    start_from: str = ""
    """Initial weights: a finished run of the same model, or a folder with the weights of a
    published model (*.safetensors, tokenizer.json); empty draws them."""
    recformer: TextConfig = field(default_factory=TwoStageConfig)
    """Read by Recformer only."""
    playlist: PlaylistTraining = field(default_factory=PlaylistTraining)
    """Read by playlist_seq2seq and playlist_bow only."""
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "horizon", "max_epochs", "epochs_per_validation", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.epochs_per_validation > self.max_epochs:
            raise ValueError(
                f"epochs_per_validation={self.epochs_per_validation} exceeds "
                f"max_epochs={self.max_epochs}: no validation would ever run"
            )
        if not 0 <= self.decay_epochs <= self.max_epochs:
            raise ValueError(
                f"decay_epochs={self.decay_epochs} is not in 0..max_epochs={self.max_epochs}"
            )
        if self.shard is not None and self.clip_norm:
            raise ValueError(
                f"clip_norm={self.clip_norm} needs the whole gradient, which [train.shard] never "
                f"forms: set it to 0"
            )
        if not 0 < self.decay_to <= 1:
            raise ValueError(f"decay_to={self.decay_to} is not in 0..1")
