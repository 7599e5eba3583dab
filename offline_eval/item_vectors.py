"""What items are alike in: their categories as sparse 0/1 vectors, for the diversity of lists."""

import numpy as np
from scipy.sparse import csr_matrix, hstack

from features.store import Dataset

FIRST_KNOWN = 2
"""Attribute values below are missing (0) and unknown (1): they say nothing."""


def category_vectors(data: Dataset) -> csr_matrix | None:
    """(V, D): 1 where the item has the category value, over all category columns; row 0 is padding.

    None where the dataset has no category column, because nothing then says what is alike.
    """
    blocks = []
    for column in data.schema.item_columns:
        if column.kind not in ("category", "categories") or column.edges:
            continue  # buckets of a number are no categories
        values_VW = data.item_table[column.name].reshape(data.schema.num_items + 1, -1)
        rows, places = np.nonzero(values_VW >= FIRST_KNOWN)
        shape = (data.schema.num_items + 1, max(column.size, FIRST_KNOWN + 1))
        block = csr_matrix((np.ones(len(rows)), (rows, values_VW[rows, places])), shape)
        block.data[:] = 1
        blocks.append(block)
    return csr_matrix(hstack(blocks)) if blocks else None
