"""Every model by name: a new one is one file and one line here."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from recsys.models.dare import DARE, DAREConfig
from recsys.models.dare_baselines import DIN, ETA, TWIN, AveragePooling, SIMHard
from recsys.models.dtrn import DTRN, DTRNConfig
from recsys.models.event_gru import EventGRU, EventGRUConfig
from recsys.models.gru4rec import GRU4Rec, GRU4RecConfig
from recsys.models.interest_fields import InterestConfig
from recsys.models.life_events import LifeEvents, LifeEventsConfig
from recsys.models.m2trec import M2TRec, M2TRecConfig
from recsys.models.multi_task import MultiTask, MultiTaskConfig
from recsys.models.playlist_bow import PlaylistBow, PlaylistBowConfig
from recsys.models.playlist_seq2seq import PlaylistSeq2Seq, PlaylistSeq2SeqConfig
from recsys.models.recformer import Recformer, RecformerConfig
from recsys.models.sasrec import SASRec, SASRecConfig


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model's configuration class, its class, and which of the three kinds it is."""

    config: type[Any]
    model: type[nn.Module]
    kind: Literal["retriever", "ranker", "outcome"]


MODELS: dict[str, ModelEntry] = {
    "event_gru": ModelEntry(EventGRUConfig, EventGRU, "outcome"),
    "life_events": ModelEntry(LifeEventsConfig, LifeEvents, "outcome"),
    "recformer": ModelEntry(RecformerConfig, Recformer, "retriever"),
    "gru4rec": ModelEntry(GRU4RecConfig, GRU4Rec, "retriever"),
    "m2trec": ModelEntry(M2TRecConfig, M2TRec, "retriever"),
    "playlist_seq2seq": ModelEntry(PlaylistSeq2SeqConfig, PlaylistSeq2Seq, "retriever"),
    "playlist_bow": ModelEntry(PlaylistBowConfig, PlaylistBow, "retriever"),
    "sasrec": ModelEntry(SASRecConfig, SASRec, "retriever"),
    "dare": ModelEntry(DAREConfig, DARE, "ranker"),
    "twin": ModelEntry(InterestConfig, TWIN, "ranker"),
    "din": ModelEntry(InterestConfig, DIN, "ranker"),
    "sim_hard": ModelEntry(InterestConfig, SIMHard, "ranker"),
    "eta": ModelEntry(InterestConfig, ETA, "ranker"),
    "average_pooling": ModelEntry(InterestConfig, AveragePooling, "ranker"),
    "dtrn": ModelEntry(DTRNConfig, DTRN, "ranker"),
    "multi_task": ModelEntry(MultiTaskConfig, MultiTask, "ranker"),
}
