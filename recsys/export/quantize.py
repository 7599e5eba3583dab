"""An ONNX graph whose matrix products are of bytes: weights by column, inputs by one range each.

The ranges are fixed here, on examples, and not taken from what a run holds: an item's vector must
not depend on the company it is encoded in.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

PRODUCTS = ["MatMul", "Gemm"]


class Examples(CalibrationDataReader):
    """Feeds in turn."""

    def __init__(self, feeds: Sequence[Mapping[str, NDArray]]) -> None:
        self._feeds: Iterator[Mapping[str, NDArray]] = iter(feeds)

    def get_next(self) -> Mapping[str, NDArray] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The next one, None after the last."""
        return next(self._feeds, None)


def quantize(path: Path, feeds: Sequence[Mapping[str, NDArray]], out: Path) -> None:
    """Write to `out` the graph at `path` with 8-bit products. feeds: inputs of typical runs."""
    with _quiet():
        quantize_static(
            path,
            out,
            Examples(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=PRODUCTS,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            extra_options={
                "OpTypesToExcludeOutputQuantization": PRODUCTS,  # sums stay float32
                "MatMulConstBOnly": True,
            },
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice that the library logs."""
    logger = logging.getLogger()
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
