"""Type aliases for arrays that modules exchange."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


Ints = npt.NDArray[np.int64]


Embeddings = npt.NDArray[np.float32]
