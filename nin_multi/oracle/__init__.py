"""The specification in float64 NumPy, forward and backward: the arbiter, and the backend `numpy`; not made for speed.

Every layer is written as its definition reads, one image at a time where memory asks for it, and shares no code
with any framework.
"""

from nin_multi.oracle.arrays import Array, Backward, sliding_window_view
from nin_multi.oracle.backend import NumpyBackend, matrix_product
from nin_multi.oracle.layers import apply_layer
from nin_multi.oracle.network import NumpyNetwork, cross_entropy
from nin_multi.oracle.windows import windows_of

__all__ = [
    "Array",
    "Backward",
    "NumpyBackend",
    "NumpyNetwork",
    "apply_layer",
    "cross_entropy",
    "matrix_product",
    "sliding_window_view",
    "windows_of",
]
