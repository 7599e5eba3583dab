"""Item vectors of an older bundle, for items that have not changed since.

An item's vector is a function of its encoded attributes and of the item encoder: where both are
equal to the byte, so is the vector. Only what is new or was rewritten is encoded.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.encode import SENTENCE
from features.errors import InputError
from features.layout import ITEMS
from features.store import read_table, to_arrays
from serving.bundle import open_bundle
from serving.manifest import ModelSpec


def known_vectors(
    path: Path, graph: Path, spec: ModelSpec, item_table: Mapping[str, NDArray]
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """(N + 1,) which items the bundle at `path` has a vector of, and (N + 1, D) those, else 0.

    graph: the item encoder of now. Raises InputError where the bundle has another one.
    """
    bundle = open_bundle(path)
    old = next((one for one in bundle.manifest.sources if isinstance(one, ModelSpec)), None)
    if old is None or not old.item_encoder:
        raise InputError(f"{path} has no item encoder: leave --reuse out")
    if (bundle.path / old.item_encoder).read_bytes() != graph.read_bytes():
        raise InputError(
            f"{path} encoded its items by other weights, or in another precision, than this run: "
            f"none of its vectors can be reused, leave --reuse out"
        )
    theirs = to_arrays(read_table(bundle.path / ITEMS))
    shape = (bundle.manifest.num_items + 1, old.dim)
    vectors_OD = bundle.array(old.vectors, shape, np.float16)
    rows = {key: row for row, key in enumerate(_keys(theirs, old.item_inputs)) if row}
    found_V = np.array([rows.get(key, 0) for key in _keys(item_table, spec.item_inputs)])
    vectors_VD = vectors_OD[found_V].astype(np.float32)
    vectors_VD[found_V == 0] = 0
    return found_V > 0, vectors_VD


def _keys(table: Mapping[str, NDArray], names: Sequence[str]) -> list[bytes]:
    """The attributes of each item as bytes; sentences without their padding, (N + 1,)."""
    parts: list[list[bytes]] = []
    for name in names:
        rows = np.ascontiguousarray(table[name])
        found = [row.tobytes() for row in rows]
        parts.append([key.rstrip(b"\0") for key in found] if name == SENTENCE else found)
    return [b"|".join(key) for key in zip(*parts, strict=True)]
