"""The LayerNorm-LSTM on a GPU: the launches of `lstm.py` on a walk that has norms.

The kernels are those of the LSTM (`sequence.py`); a layer norm is one constant of theirs.
"""

from __future__ import annotations

from sketchrnn_fast.kernels.lstm import backward, forward

__all__ = ["backward", "forward"]
