"""The [export] section: which sources a bundle holds, and what is done with their proposals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import ConfigDict

from recsys.export.ranker_config import RankerConfig
from recsys.export.segment_config import SegmentConfig
from serving.policy_spec import PolicySpec

SourceName = Literal["model", "history_knn", "item_knn", "popularity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryConfig:
    """The training histories that a bundle answers from (history_knn)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    neighbours: int = 50
    """Histories that vote."""
    temperature: float = 0.1
    """Of their votes: a cosine lower by this much weighs e times less."""
    most: int = 0
    """Histories kept, the newest ones; 0 keeps all."""

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.temperature <= 0 or self.most < 0:
            raise ValueError(
                f"neighbours={self.neighbours} must be at least 1, temperature={self.temperature} "
                f"above 0, most={self.most} not below 0"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryCut:
    """Candidates of the model are the items of the likeliest next categories (HierSRec's idea)."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    column: str
    """A category column that the model predicts."""
    share: float = 0.04
    """Categories are taken, the likeliest first, until they hold this share of the catalogue."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share={self.share} must be above 0 and at most 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportConfig:
    """What goes into a bundle."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    sources: tuple[SourceName, ...] = ("model", "item_knn", "popularity")
    """In order of priority. `model` and `history_knn`, the items of the training histories that
    the model finds most like the request's, are left out when there is no training run."""
    histories: HistoryConfig = field(default_factory=HistoryConfig)
    """Of history_knn."""
    candidates: int = 200
    """Items each source proposes to the ranker."""
    encoder_precision: Literal["float32", "int8"] = "float32"
    """Of the weights that encode histories. int8 is refused where it changes too many answers."""
    category_cut: CategoryCut | None = None
    """Of a model that predicts categories (m2trec): leaves most of the catalogue out before items
    are scored."""
    ranker: Literal["none", "lightgbm", "neural", "stacked"] = "none"
    """none: sources answer in order of priority. lightgbm: trained on the validation cases.
    neural: a run of a ranker. stacked: lightgbm, with the score of a neural ranker among its
    features."""
    ranker_precision: Literal["float32", "float16", "int8"] = "float32"
    """Of the item tensors of a neural ranker: a half or a quarter of the memory."""
    task_weights: Mapping[str, float] = field(default_factory=dict)
    """Of a neural ranker with several tasks: candidates are ordered by the product of the tasks'
    probabilities, each to this power (1 where none is given)."""
    item_precision: Literal["float32", "int8"] = "float32"
    """Of the arithmetic of a model that reads item attributes, when it encodes items: int8 takes
    less than half the time on a CPU, and is refused where items get other neighbours by it."""
    lightgbm: RankerConfig = field(default_factory=RankerConfig)
    """How that ranker is trained; read only where it is chosen."""
    policy: PolicySpec = field(default_factory=PolicySpec)
    """What may be recommended to whom and how lists are arranged; a request can bring another."""
    neighbours: int = 20
    """Neighbours kept per item by item_knn."""
    popularity_days: float | None = None
    """Days before the end of training that popularity counts; None counts all of them."""
    segments: SegmentConfig | None = None
    """Groups of users whose popularity is kept apart, for those without a history."""
    golden_requests: int = 8
    """Requests stored with their answers, to be repeated by whoever loads the bundle."""

    def __post_init__(self) -> None:
        if len(set(self.sources)) != len(self.sources) or not self.sources:
            raise ValueError(f"sources={self.sources} must name at least one source, each once")
        if "popularity" not in self.sources:
            raise ValueError(
                f"sources={self.sources} lacks popularity: new users would get no answer"
            )
        for name in ("candidates", "neighbours", "golden_requests"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value} must be at least 1")
