"""The content hash of a bar: eight bytes that stand for its close and its five values."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Int = npt.NDArray[np.int64]
Float = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]


def bar_hashes(ts: Int, values: Float) -> Hashes:
    """(n,) hashes of n bars: ``ts`` (n,) closes in ns, ``values`` (5, n) open … volume.

    Each is BLAKE2b with eight bytes of output over the close as int64 and the values as float64, little-endian, read
    as a little-endian uint64.
    """
    count = values.shape[1]
    table = np.empty((count, 6), dtype="<f8")
    table[:, 0] = np.asarray(ts, dtype="<i8").view("<f8")
    table[:, 1:] = values.T
    data = table.tobytes()
    digests = [blake2b(data[at : at + 48], digest_size=8).digest() for at in range(0, 48 * count, 48)]
    return np.frombuffer(b"".join(digests), dtype="<u8")
