"""Song vectors by skip-gram with negative sampling (Mikolov et al. 2013), a playlist a sentence.

`gensim` trains them, in one thread: then the same seed gives the same vectors.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from features.encode import Histories
from recsys.training.playlist_config import SkipGramConfig


class _Sentences:
    """Training histories as gensim reads them, again for every epoch: ids as text."""

    def __init__(self, histories: Histories) -> None:
        self._histories = histories

    def __iter__(self) -> Iterator[list[str]]:
        h = self._histories
        for start, end in zip(h.starts.tolist(), h.ends.tolist(), strict=True):
            yield [str(item) for item in h.items[start:end].tolist()]


def song_vectors(
    histories: Histories, num_items: int, dim: int, config: SkipGramConfig, seed: int
) -> NDArray[np.float32]:
    """(num_items + 1, dim) float32; zero for padding and for songs below `config.min_count`."""
    from gensim.models import Word2Vec  # noqa: PLC0415 - a second to load, for playlists only

    vectors_VD = np.zeros((num_items + 1, dim), np.float32)
    sentences = _Sentences(histories)
    model = Word2Vec(
        vector_size=dim,
        window=config.window,
        negative=config.negatives,
        min_count=config.min_count,
        sample=config.subsample,
        sg=1,
        workers=1,
        seed=seed,
    )
    model.build_vocab(sentences)
    if len(model.wv):
        model.train(sentences, total_examples=model.corpus_count, epochs=config.epochs)
        rows = [int(str(word)) for word in model.wv.index_to_key]
        vectors_VD[rows] = model.wv.vectors
    return vectors_VD
