"""What `manifest.json` of a bundle says: its parts, their files, and what was measured of them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.calibration import Calibration
from serving.category_spec import CategoryCutSpec
from serving.history_spec import HistoryNeighbourSpec
from serving.measured import IndexRecall, ItemParity, Parity, Quantized
from serving.policy_spec import PolicySpec

FORMAT_VERSION = 1


class Strict(BaseModel):
    """Frozen; refuses unknown keys and converts nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileEntry(Strict):
    """What a file of the bundle must be."""

    sha256: str
    size: int
    """Bytes."""


class ModelSpec(Strict):
    """A neural source: an ONNX graph from history to vector, and the vectors of the items."""

    kind: Literal["model"] = "model"
    name: str
    model: str
    """Name in recsys.models.MODELS, for the record."""
    encoder: str
    """Graph with the output (B, D) float32, and one more for each of `predicted`."""
    inputs: tuple[str, ...]
    """Input names of `features.encode`, in the order of the graph."""
    vectors: str
    """(N + 1, D) float16; row i belongs to dense id i."""
    max_len: int
    """Longest history the graph takes, in events; the most recent are used."""
    dim: int
    candidates: int
    """Items proposed for the ranker to choose from."""
    item_encoder: str = ""
    """Graph from attributes to the item's vector, (n, D) float32; empty for a model that knows
    items by id only, and to which none can be added."""
    item_inputs: tuple[str, ...] = ()
    """Names of item attributes, in the order of that graph."""
    refine: int = 20
    """Candidates an approximate index compares at half precision, per result asked for; 0: all."""
    precision: Literal["float32", "int8"] = "float32"
    """Of the encoder's weights."""
    predicted: tuple[str, ...] = ()
    """Item columns of which the encoder also gives logits, (B, C) float32: column c is code c + 2
    of the next item's value."""
    cut: CategoryCutSpec | None = None
    """By one of these; None searches the whole catalogue."""

    def graphs(self) -> set[str]:
        """Its ONNX files."""
        return {self.encoder, self.item_encoder} - {""}


class NeighbourSpec(Strict):
    """Item-to-item neighbours as a sparse matrix (CSR): row i belongs to dense id i."""

    kind: Literal["item_knn"] = "item_knn"
    name: str
    indptr: str
    indices: str
    scores: str
    candidates: int


class PopularitySpec(Strict):
    """One score an item, the same for everybody; also the fallback for new users."""

    kind: Literal["popularity"] = "popularity"
    name: str
    scores: str
    """(N + 1,) float32."""
    candidates: int
    segments: tuple[str, ...] = ()
    """Names of the groups of users whose popularity is kept apart."""
    segment_scores: str = ""
    """(S, N + 1) float32, a row for each segment; read only where there are some."""


SourceSpec = Annotated[
    ModelSpec | NeighbourSpec | HistoryNeighbourSpec | PopularitySpec, Field(discriminator="kind")
]


class GraphSpec(Strict):
    """An ONNX graph with its inputs and outputs by name, in their order."""

    graph: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class ItemTensorSpec(Strict):
    """What a neural ranker knows of each item: row i belongs to dense id i."""

    name: str
    values: str
    """(N + 1, *shape) of `dtype`."""
    dtype: Literal["float32", "float16", "int8", "int64"]
    shape: tuple[int, ...]
    """Of one item."""
    scale: str = ""
    """Of int8: (N + 1,) float32, what 1 means in that row."""


class NeuralRankerSpec(Strict):
    """A second stage by a trained model; `serving.neural` says how its parts run."""

    kind: Literal["neural"] = "neural"
    model: str
    """Name in recsys.models.MODELS, for the record."""
    history: GraphSpec
    """Inputs of `features.encode`, and `own.<name>`: item tensors of the history's items."""
    stages: tuple[GraphSpec, ...]
    """Run one after the other for all candidates; the last has the output `scores`, (B, C, T)."""
    items: tuple[ItemTensorSpec, ...]
    tasks: tuple[str, ...]
    """Names of the T outputs."""
    weights: tuple[float, ...]
    """Of several tasks: the power of each task's probability in the score, where the policy has no
    formula."""
    calibration: tuple[Calibration, ...] = ()
    """Of several tasks: one each; empty leaves log-odds as they are."""
    max_len: int
    min_len: int
    """Shorter histories are padded to this length."""
    len_multiple: int
    """And then to a multiple of this."""

    def part_files(self) -> set[str]:
        """Files it is read from."""
        names = {self.history.graph, *(stage.graph for stage in self.stages)}
        for tensor in self.items:
            names |= {tensor.values, *([tensor.scale] if tensor.scale else [])}
        return names


class GoldenOutcome(Strict):
    """An encoded document and its calibrated probabilities at export."""

    tokens: tuple[int, ...]
    days: tuple[float, ...]
    ages: tuple[float, ...]
    segments: tuple[int, ...]
    expected: tuple[float, ...]


class OutcomeSpec(Strict):
    """An outcome model: an ONNX graph from a person's document to probabilities and a vector."""

    model: str
    """Name in recsys.models.MODELS, for the record."""
    graph: str
    """Two outputs: (B, P) probabilities before calibration, (B, D) person vectors, float32."""
    schema_file: str
    """`life.json`: tokens, clocks, outcomes."""
    items: str = ""
    """Parquet of item_id and the item columns that events take from it; empty: none."""
    inputs: tuple[str, ...]
    """Input names of `features.life_encode`, in the order of the graph."""
    max_len: int
    """Longest document the graph takes, in tokens."""
    dim: int
    """Width of a person's vector."""
    calibration: tuple[Calibration, ...]
    """One an outcome, in the schema's order."""
    golden: tuple[GoldenOutcome, ...] = ()

    def part_files(self) -> set[str]:
        """Files it is read from."""
        return {self.graph, self.schema_file, self.items} - {""}


class TreeRankerSpec(Strict):
    """A second stage over the features of `features.asof`."""

    kind: Literal["lightgbm"] = "lightgbm"
    graph: str
    """(n, F) float32 features -> one score each."""
    features: tuple[str, ...]
    """Names of the F columns; the loading code must be able to produce each of these."""
    label_delay_days: int = 0
    """Days after which the item statistics know of an event, as in training."""
    neural: NeuralRankerSpec | None = None
    """A model whose score is a feature too, as that of a source called `neural`."""
    persons: OutcomeSpec | None = None
    """An outcome model whose person vector, `person_0` and so on, makes the last features."""

    def part_files(self) -> set[str]:
        """Files it is read from."""
        names = {self.graph, *(self.neural.part_files() if self.neural else ())}
        return names | (self.persons.part_files() if self.persons else set())


RankerSpec = Annotated[TreeRankerSpec | NeuralRankerSpec, Field(discriminator="kind")]


class Golden(Strict):
    """A request and its answer at export, in dense ids: a loaded bundle must repeat it."""

    items: tuple[int, ...]
    timestamps: tuple[int, ...]
    events: tuple[int, ...]
    at: int
    expected: tuple[int, ...]
    scores: tuple[float, ...]


class Manifest(Strict):
    """Everything a reader may rely on."""

    format_version: Literal[1] = FORMAT_VERSION
    dataset: str
    """sha256 of the manifest of the dataset the bundle was made from."""
    run: str
    """sha256 of the manifest of the training run; empty where no neural model is inside."""
    ranker_run: str = ""
    """The same of the neural ranker, where there is one."""
    num_items: int
    parent: str = ""
    """sha256 of the manifest of the bundle that this one adds items to; empty for an export."""
    sources: tuple[SourceSpec, ...]
    """In order of priority: an item proposed twice belongs to the first."""
    ranker: RankerSpec | None = None
    outcomes: OutcomeSpec | None = None
    """Set where the bundle predicts outcomes; it then has no sources and no items."""
    policy: PolicySpec = PolicySpec()
    parity: tuple[Parity, ...] = ()
    ranker_parity: tuple[Parity, ...] = ()
    """Of the neural ranker, with its item tensors as stored."""
    item_parity: tuple[ItemParity, ...] = ()
    """Of the item encoder, where there is one."""
    quantized: Quantized | None = None
    """Of an encoder with int8 weights."""
    index_recall: tuple[IndexRecall, ...] = ()
    golden: tuple[Golden, ...] = ()
    config: dict[str, Any]
    """The export configuration."""
    report: dict[str, Any] = {}
    """Notes of the export: how the ranker was trained and what it gained."""
    versions: dict[str, str] = {}
    """Of the libraries that wrote the graphs."""
    files: dict[str, FileEntry] = {}

    def part_files(self) -> set[str]:
        """Files that sources and ranker are read from."""
        names = self.ranker.part_files() if self.ranker else set()
        names |= self.outcomes.part_files() if self.outcomes else set()
        for spec in self.sources:
            match spec:
                case ModelSpec():
                    names |= {*spec.graphs(), spec.vectors}
                case NeighbourSpec():
                    names |= {spec.indptr, spec.indices, spec.scores}
                case HistoryNeighbourSpec():
                    names |= {spec.encoder, spec.vectors, spec.centre, spec.indptr, spec.items}
                case PopularitySpec():
                    names |= {spec.scores, *([spec.segment_scores] if spec.segments else [])}
        return names
