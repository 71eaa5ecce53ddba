"""The one table of tolerances of the whole project.

An error is a relative norm, per tensor: ‖result − expected‖ / ‖expected‖, in float64. No test
loosens a tolerance for itself; a kind that is missing here is added here, with its reason.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

# By the dtype in which the result was computed or stored, and by what it is:
#   value     one op's or the model's outputs, and states
#   gradient  sums over rows and time of values, so that more rounding gathers
#   hyper     outputs of a HyperLSTM, whose gates are products of products
#   hyper gradient  a HyperLSTM's gradients on Triton's kernels
TOLERANCES: dict[tuple[torch.dtype, str], float] = {
    (torch.float64, "value"): 1e-12,
    (torch.float64, "gradient"): 1e-11,
    (torch.float64, "hyper"): 1e-12,
    (torch.float32, "value"): 2e-6,
    (torch.float32, "gradient"): 1e-5,
    (torch.float32, "hyper"): 1e-5,
    # The inputs are exact in these dtypes and the arithmetic is float32: what remains is the
    # rounding of the stored output, half a unit in the last place (2⁻⁹ and 2⁻¹²), which the
    # gradient passes on.
    (torch.bfloat16, "value"): 4e-3,
    (torch.bfloat16, "gradient"): 1e-2,
    (torch.bfloat16, "hyper"): 4e-3,
    (torch.float16, "value"): 5e-4,
    (torch.float16, "gradient"): 2e-3,
    (torch.float16, "hyper"): 5e-4,
    # On Triton, 16 bits are also what tensor cores take and what is kept between the passes
    # (h, products, gates, codes), and a HyperLSTM's embedding biases get small sums of large terms:
    # at N = 250 up to 1.2e-2 and 1.6e-3 over eight seeds. The tolerances are eight to one, as the
    # units are; float16's and float32's are those of every gradient.
    (torch.float32, "hyper gradient"): 1e-5,
    (torch.bfloat16, "hyper gradient"): 1.6e-2,
    (torch.float16, "hyper gradient"): 2e-3,
}


def relative_error(result: Any, expected: Any) -> float:
    """‖result − expected‖ / ‖expected‖ over all elements; ‖result‖ where expected is all zero."""
    found, wanted = _float64(result), _float64(expected)
    assert found.shape == wanted.shape, f"shape {found.shape} where {wanted.shape} is expected"
    scale = float(np.linalg.norm(wanted.ravel()))
    return float(np.linalg.norm((found - wanted).ravel())) / (scale or 1.0)


def assert_close(
    result: Any,
    expected: Any,
    dtype: torch.dtype,
    kind: str = "value",
    what: str = "result",
) -> None:
    """Fail unless the relative error is within the table's tolerance; NaN and inf fail."""
    error = relative_error(result, expected)
    tolerance = TOLERANCES[dtype, kind]
    assert error <= tolerance, f"{what}: relative error {error:.2e}, tolerance {tolerance:.0e}"


def _float64(values: Any) -> NDArray[np.float64]:
    if isinstance(values, torch.Tensor):
        return values.detach().double().cpu().numpy()
    array: ArrayLike = values
    return np.asarray(array, np.float64)
