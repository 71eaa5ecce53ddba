"""The recurrent ops under torch.autocast: storage in the lower dtype, cell states in float32."""

from __future__ import annotations

import pytest
import torch
from cells import VARIANTS, Cell, each_cell, make_case, random_loss, run_op
from tolerances import assert_close

pytestmark = pytest.mark.usefixtures("backend")


@each_cell
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_inputs_and_weights_are_cast_and_cell_states_are_not(
    cell: Cell, dtype: torch.dtype
) -> None:
    case = make_case(cell, VARIANTS["everything"], dtype=torch.float32).requiring_gradients()
    with torch.autocast("cpu", dtype=dtype):
        hidden, final = run_op(cell, case)
    assert hidden.dtype == dtype
    assert [part.dtype for part in final] == [dtype, torch.float32] * (len(final) // 2)

    lower = case.with_leaves(
        [leaf.detach().to(dtype) for leaf in case.leaves[: -len(case.state)]]
        + [part.detach().to(d.dtype) for part, d in zip(case.state, final, strict=True)]
    ).requiring_gradients()
    expected, expected_final = run_op(cell, lower)
    assert torch.equal(hidden, expected)
    for part, wanted in zip(final, expected_final, strict=True):
        assert torch.equal(part, wanted)

    grads = torch.autograd.grad(random_loss(hidden, final), case.leaves)
    wanted_grads = torch.autograd.grad(random_loss(expected, expected_final), lower.leaves)
    for leaf, grad, wanted in zip(case.leaves, grads, wanted_grads, strict=True):
        assert grad.dtype == leaf.dtype == torch.float32
        assert_close(grad, wanted.float(), dtype, "gradient")


@each_cell
def test_float64_is_left_as_it_is(cell: Cell) -> None:
    case = make_case(cell, VARIANTS["everything"])
    expected, _ = run_op(cell, case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden, _ = run_op(cell, case)
    assert torch.equal(hidden, expected)


@each_cell
def test_a_backward_pass_under_autocast_has_the_same_gradients(cell: Cell) -> None:
    case = make_case(cell, VARIANTS["everything"], dtype=torch.float32).requiring_gradients()
    hidden, final = run_op(cell, case)
    expected = torch.autograd.grad(random_loss(hidden, final), case.leaves, retain_graph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        grads = torch.autograd.grad(random_loss(hidden, final), case.leaves)
    for grad, wanted in zip(grads, expected, strict=True):
        assert torch.equal(grad, wanted)


@each_cell
def test_a_layer_compiles_under_autocast(cell: Cell) -> None:
    layer = cell.layer(3, 5, **cell.sizes)
    x = torch.randn(4, 2, 3)

    def run(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden: torch.Tensor = layer(x)[0]
        return hidden

    assert torch.equal(torch.compile(run, fullgraph=True, backend="aot_eager")(x), run(x))
