"""The exposure log: what was shown, with what chance, and what came of it. No Polars here.

Written by whoever serves, read by off-policy evaluation: one row an item shown. Column names and
widths are those of `COLUMNS`; the Parquet check is `features.schema.check_exposures`. Other columns
may ride along (the bundle version, the page). Raw ids, as everywhere outside.

    request_id   one answer to one user
    at           moment of the request, microseconds UTC
    user_id, item_id
    rank         place in the list, 1 is the top; a rank is filled once a request
    propensity   chance, before drawing, that this item stood at this rank of this request, above
                 0 up to 1. A list that is not drawn but sorted has 1 everywhere, and then nothing
                 can be learnt about any other policy: log only what was drawn
    reward       what came of it: 1 for a click or 0, or any number; 0 where nothing came
"""

from collections.abc import Mapping

import pyarrow as pa

REQUEST_ID = "request_id"
AT = "at"
USER_ID = "user_id"
ITEM_ID = "item_id"
RANK = "rank"
PROPENSITY = "propensity"
REWARD = "reward"

COLUMNS: Mapping[str, tuple[pa.DataType, ...]] = {
    REQUEST_ID: (pa.string(), pa.int64()),
    AT: (pa.timestamp("us"),),
    USER_ID: (pa.string(), pa.int64()),
    ITEM_ID: (pa.string(), pa.int64()),
    RANK: (pa.int32(), pa.int64(), pa.int16()),
    PROPENSITY: (pa.float64(), pa.float32()),
    REWARD: (pa.float64(), pa.float32()),
}
"""Columns of an exposure log, with the types each may have; write the first where you can."""


def exposure_schema(*, integer_ids: bool = False) -> pa.Schema:
    """The Arrow schema to write with: string ids, or Int64 ones for users and items."""
    ids = pa.int64() if integer_ids else pa.string()
    chosen = {name: types[0] for name, types in COLUMNS.items()} | {USER_ID: ids, ITEM_ID: ids}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in chosen.items()])
