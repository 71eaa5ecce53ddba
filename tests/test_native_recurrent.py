"""The native recurrent kernels against the reference in float64, at sizes that fit no register.

Both are given the same numbers, which float32 can hold; so the reference's result is the expected
one for the float32 and the float64 build of the kernels.
"""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import pytest
import torch
import torch._dynamo.testing
from cells import (
    EVERYTHING,
    FLOAT64,
    VARIANTS,
    Case,
    Cell,
    Results,
    Variant,
    each_cell,
    each_direction_with_everything,
    make_case,
    random_loss,
    results,
    run_op,
)
from tolerances import assert_close
from torch.utils.checkpoint import checkpoint

from sketchrnn_fast.reference import philox

pytestmark = pytest.mark.usefixtures("on_native_kernels")


FLOAT32 = torch.float32
DTYPES = (FLOAT32, FLOAT64)


class Sizes(NamedTuple):
    """T steps, B rows, N units, X inputs, S static ones, H units and E embedding of the hyper cell.

    A chunk of the backward pass has 1024 entries, 512 in a HyperLSTM; a register tile has up to 14
    rows, and panels of columns are 8 to 32 wide by level and type.
    """

    T: int
    B: int
    N: int
    X: int = 3
    S: int = 5
    H: int = 7
    E: int = 3


SMALL = {
    "one_of_all": Sizes(1, 1, 1, 1, 1, 1, 1),
    "one_row": Sizes(9, 1, 17),
    "one_step": Sizes(1, 7, 17, 5, 3, 17, 1),
    "seven_rows": Sizes(9, 7, 17, 1, 1, 5, 9),
    "three_chunks": Sizes(23, 100, 17, 5, 1, 3, 2),
    "more_inputs_than_units": Sizes(4, 7, 5, 67, 33, 35, 17),
}
LARGE = {
    "long": Sizes(250, 3, 17),
    "one_row_of_250": Sizes(5, 1, 250, 5, 33, 65, 33),
    "seven_rows_of_512": Sizes(3, 7, 512, 5, 7, 33, 7),
    "hundred_rows_of_250": Sizes(2, 100, 250, 5, 7, 33, 16),
    "hundred_rows_of_512": Sizes(2, 100, 512, 5, 128, 64, 32),
}
each_small_size = pytest.mark.parametrize("sizes", SMALL.values(), ids=SMALL)
each_large_size = pytest.mark.parametrize("sizes", LARGE.values(), ids=LARGE)
each_variant = pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)


def sized_case(cell: Cell, variant: Variant, sizes: Sizes) -> Case:
    """A case in float32 of these sizes; the variant only says whether there is a static input."""
    T, B, N, X, S, H, E = sizes
    variant = variant._replace(static_size=S if variant.static_size else 0)
    return make_case(cell, variant, T=T, B=B, N=N, X=X, H=H, E=E, dtype=FLOAT32)


def names(cell: Cell, case: Case) -> tuple[list[str], list[str]]:
    """The names of all results, for messages."""
    state = ["h", "c", "h_hyper", "c_hyper"][: len(case.state)]
    static = [] if case.static is None else ["static"]
    leaves = ["x", *static, *cell.weights_type._fields, *state]
    return ["hidden", *(f"final {part}" for part in state)], [f"gradient of {n}" for n in leaves]


def agree(cell: Cell, case: Case, expected: Results, dtype: torch.dtype) -> None:
    found = results(cell, case.to(dtype))
    output_names, gradient_names = names(cell, case)
    for part, wanted, name in zip(found.outputs, expected.outputs, output_names, strict=True):
        assert part.dtype == dtype
        assert_close(part, wanted, dtype, cell.kind, name)
    gradients = zip(found.gradients.leaves, expected.gradients.leaves, gradient_names, strict=True)
    for part, wanted, name in gradients:
        assert_close(part, wanted, dtype, "gradient", name)


def agree_in_both_dtypes(cell: Cell, case: Case) -> None:
    expected = results(cell, case.to(FLOAT64), "reference")
    for dtype in DTYPES:
        agree(cell, case, expected, dtype)


@each_cell
@each_variant
@each_small_size
def test_outputs_and_gradients_are_those_of_the_reference(
    cell: Cell, variant: Variant, sizes: Sizes
) -> None:
    agree_in_both_dtypes(cell, sized_case(cell, variant, sizes))


@each_cell
@pytest.mark.parametrize(
    "variant", [Variant(), *EVERYTHING], ids=["plain", "everything", "everything_in_reverse"]
)
@each_large_size
def test_outputs_and_gradients_at_large_sizes_are_those_of_the_reference(
    cell: Cell, variant: Variant, sizes: Sizes
) -> None:
    agree_in_both_dtypes(cell, sized_case(cell, variant, sizes))


@each_cell
@pytest.mark.parametrize("first", range(0, 70, 10))
def test_any_number_of_units_and_rows_will_do(cell: Cell, first: int) -> None:
    """Every N up to 70, and with it sizes drawn at random.

    A norm over two or three units all but cancels its gradient (over two it is ±1, whatever comes
    in), so that even the reference in float32 has an error of 3e-5: there, in float64 only.
    """
    draw = random.Random(first)
    for N in range(first + 1, first + 11):
        sizes = Sizes(
            T=draw.randint(1, 5),
            B=draw.randint(1, 40),
            N=N,
            X=draw.randint(1, 40),
            S=draw.randint(1, 40),
            H=draw.randint(1, 40),
            E=draw.randint(1, 40),
        )
        variant = draw.choice(list(VARIANTS.values()))
        case = sized_case(cell, variant, sizes)
        expected = results(cell, case.to(FLOAT64), "reference")
        agree(cell, case, expected, FLOAT64 if N in (2, 3) else draw.choice(DTYPES))


# ---- Lengths ----


@each_cell
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize(
    "lengths",
    [[0], [1], [0, 0, 0], [0, 3, 1], [3, 3, 0], [1, 2, 3], [3, 2, 1], [0, 0, 1], [1] * 9],
    ids=str,
)
def test_rows_of_any_length_have_the_results_of_the_reference(
    cell: Cell, reverse: bool, lengths: list[int]
) -> None:
    variant = Variant(reverse=reverse, static_size=2, keep_prob=0.7)
    case = sized_case(cell, variant, Sizes(3, len(lengths), 5))
    agree_in_both_dtypes(cell, case._replace(lengths=torch.tensor(lengths)))


@each_cell
@each_direction_with_everything
def test_rows_that_take_no_step_pass_their_state_on_and_give_weights_no_gradient(
    cell: Cell, variant: Variant
) -> None:
    case = sized_case(cell, variant, Sizes(4, 7, 17))
    case = case._replace(lengths=torch.zeros(7, dtype=torch.int64)).requiring_gradients()
    hidden, final = run_op(cell, case)
    assert (hidden == 0).all()
    for part, initial in zip(final, case.state, strict=True):
        assert torch.equal(part, initial)
    grads = case.with_leaves(torch.autograd.grad(random_loss(hidden, final), case.leaves))
    assert grads.static is not None
    for grad in (grads.x, grads.static, *grads.weights):
        assert (grad == 0).all()
    assert all((grad != 0).any() for grad in grads.state)


@each_cell
def test_steps_past_a_rows_end_give_zeros(cell: Cell) -> None:
    case = sized_case(cell, VARIANTS["everything"], Sizes(6, 30, 17))
    assert case.lengths is not None
    found = results(cell, case)
    for row, length in enumerate(case.lengths.tolist()):
        assert (found.outputs[0][:length, row] != 0).any(-1).all()
        assert (found.outputs[0][length:, row] == 0).all()
        assert (found.gradients.x[length:, row] == 0).all()


# ---- Dropout ----


@each_cell
@pytest.mark.parametrize("units", [1, 7, 8, 9, 250, 512, 700])
@pytest.mark.parametrize("keep_prob", [0.05, 0.5, 1 - 2**-16], ids=str)
def test_dropout_masks_are_the_references_bit_for_bit(
    cell: Cell, units: int, keep_prob: float
) -> None:
    """Gates that forget everything leave next to nothing in c where a candidate is dropped.

    The final c shows the mask of a row's last step, so rows of each length show all steps.
    """
    rows, offset = 9, 2**31 - 4
    variant = Variant(False, True, 0, keep_prob, offset, forget_bias=-1e4)
    case = sized_case(cell, variant, Sizes(rows, rows, units, E=2))
    case = case._replace(lengths=torch.arange(1, rows + 1))
    masks = philox.keep_mask(case.seed, rows, rows, units, keep_prob, row_offset=offset)
    last = torch.arange(rows)
    expected = masks[last, last].bool()
    for dtype in DTYPES:
        _, final = run_op(cell, case.to(dtype))
        assert torch.equal(final[1].abs() > 1e-20, expected)


# ---- The layer as a part of PyTorch ----


@each_cell
@pytest.mark.parametrize("use_reentrant", [False, True], ids=["plain", "reentrant"])
def test_a_checkpointed_layer_has_the_same_gradients(cell: Cell, use_reentrant: bool) -> None:
    """The masks too are drawn again as they were, by a seed from torch's generator."""
    torch.manual_seed(0)
    layer = cell.layer(3, 17, bidirectional=True, recurrent_keep_prob=0.5, **cell.sizes)
    x = torch.randn(5, 7, 3, requires_grad=True)

    def gradients(run: Any) -> tuple[torch.Tensor, ...]:
        torch.manual_seed(1)
        output, final = run(x)
        return torch.autograd.grad(random_loss(output, final), [x, *layer.parameters()])

    def flat(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output, final = layer(x)
        return output, *final

    def checkpointed(x: torch.Tensor) -> Any:
        output, *final = checkpoint(flat, x, use_reentrant=use_reentrant)
        return output, tuple(final)

    if use_reentrant:  # which knows `backward` alone
        torch.manual_seed(1)
        random_loss(*checkpointed(x)).backward()
        found = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    else:
        found = list(gradients(checkpointed))
    for grad, wanted in zip(found, gradients(layer), strict=True):
        assert torch.equal(grad, wanted)


@each_cell
@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
def test_a_compiled_layer_equals_the_eager_one(cell: Cell, compiler: str) -> None:
    torch.manual_seed(0)
    layer = cell.layer(3, 17, bidirectional=True, recurrent_keep_prob=0.5, **cell.sizes)
    x, lengths = torch.randn(5, 7, 3, requires_grad=True), torch.tensor([5, 0, 3, 5, 1, 2, 4])
    seed = torch.tensor([3])

    def function(x: torch.Tensor, lengths: torch.Tensor, seed: torch.Tensor) -> Any:
        return layer(x, lengths=lengths, seed=seed)

    compiled = torch.compile(function, fullgraph=True, backend=compiler)
    leaves = [x, *layer.parameters()]
    found, expected = compiled(x, lengths, seed), function(x, lengths, seed)
    for part, wanted in zip([found[0], *found[1]], [expected[0], *expected[1]], strict=True):
        assert torch.equal(part, wanted)
    grads = torch.autograd.grad(random_loss(*found), leaves)
    for grad, wanted in zip(
        grads, torch.autograd.grad(random_loss(*expected), leaves), strict=True
    ):
        assert_close(grad, wanted, FLOAT32, "gradient")


@each_cell
def test_compiled_graphs_do_not_multiply_with_lengths_and_batches(cell: Cell) -> None:
    layer = cell.layer(3, 8, **cell.sizes)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend=counter)
    for time_steps, rows in ((4, 5), (6, 4), (7, 6), (9, 2), (11, 7), (12, 8)):
        x = torch.randn(time_steps, rows, 3)
        assert torch.equal(compiled(x)[0], layer(x)[0])
        compiled(x)[0].sum().backward()
    # PyTorch may make a second one, when it learns that sizes which were equal need not be.
    assert counter.frame_count <= 2
