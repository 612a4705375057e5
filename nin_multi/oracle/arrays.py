"""What the oracle's modules call their arrays, and the functions that lead gradients back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib import stride_tricks
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Its type stubs differ between NumPy versions, and some know no tuple of axes.
sliding_window_view: Any = stride_tricks.sliding_window_view
Named = dict[str, Array]  # by parameter name
# Gradient of the loss by a layer's output -> gradient by its input; parameter gradients go into the dictionary.
Backward = Callable[[Array, Named], Array]
