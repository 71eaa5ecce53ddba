"""The recurrent modules: layers composed of cells, masks, and torch.compile."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from cells import FLOAT64, Cell, each_cell, random_loss
from tolerances import assert_close

import sketchrnn_fast
from sketchrnn_fast.ops import backends
from sketchrnn_fast.ops.recurrent_call import Implementation
from sketchrnn_fast.philox import Stream
from sketchrnn_fast.reference import philox

SEED = torch.tensor([42])
X, N, S, T, B = 3, 5, 2, 6, 4
LENGTHS = torch.tensor([6, 0, 3, 1])


def make_layer(cell: Cell, *, seed: int = 0, **arguments: Any) -> Any:
    """A layer in float64 whose parameters are all random."""
    torch.manual_seed(seed)
    layer = cell.layer(X, N, dtype=FLOAT64, **cell.sizes, **arguments)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=FLOAT64, generator=torch.Generator().manual_seed(len(shape)))


def random_state(layer: Any, count: int) -> tuple[torch.Tensor, ...]:
    return tuple(random(count, B, width) + width for width in layer.cells[0].state_widths)


@pytest.mark.usefixtures("backend")
@each_cell
def test_steps_of_the_cell_chained_equal_the_layer(cell: Cell) -> None:
    layer = make_layer(cell, static_size=S)
    x, static, state = random(T, B, X), random(B, S), random_state(layer, 1)
    leaves = [tensor.requires_grad_() for tensor in (x, static, *state)] + [*layer.parameters()]
    output, final = layer(x, state, static=static)
    step_state = tuple(part[0] for part in state)
    hidden = []
    for t in range(T):
        step_state = layer.cells[0](x[t], step_state, static=static)
        hidden.append(step_state[0])
    chained = torch.stack(hidden), tuple(part[None] for part in step_state)
    assert_close(chained[0], output, FLOAT64)
    for part, expected in zip(chained[1], final, strict=True):
        assert_close(part, expected, FLOAT64)
    found = torch.autograd.grad(random_loss(*chained), leaves)
    for grad, wanted in zip(
        found, torch.autograd.grad(random_loss(output, final), leaves), strict=True
    ):
        assert_close(grad, wanted, FLOAT64, "gradient")


@each_cell
def test_a_step_of_the_cell_runs_on_the_kernels_of_the_layer(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    native = backends.implementation(cell.name, "native")

    def forward(*arguments: Any) -> Any:
        calls.append(arguments)
        return native.forward(*arguments)

    counted = native._replace(forward=forward)
    monkeypatch.setitem(backends._implementations[cell.name], "native", counted)
    layer = make_layer(cell)
    layer(random(T, B, X))
    layer.cells[0](random(B, X))
    assert len(calls) == 2


@each_cell
def test_bidirectional_is_two_cells_side_by_side(cell: Cell) -> None:
    layer = make_layer(cell, bidirectional=True, static_size=S)
    x, static, state = random(T, B, X), random(B, S), random_state(layer, 2)
    output, final = layer(x, state, static=static, lengths=LENGTHS)
    assert output.shape == (T, B, 2 * N)
    for direction, one in enumerate(layer.cells):
        expected, expected_final = one.sequence(
            x,
            tuple(part[direction] for part in state),
            static=static,
            lengths=LENGTHS,
            reverse=direction == 1,
        )
        assert_close(output[..., direction * N : (direction + 1) * N], expected, FLOAT64)
        for part, wanted in zip(final, expected_final, strict=True):
            assert_close(part[direction], wanted, FLOAT64)


@each_cell
def test_directions_with_options_of_their_own_run_as_two_cells(cell: Cell) -> None:
    layer = make_layer(cell, bidirectional=True, recurrent_keep_prob=0.5)
    layer.cells[1].forget_bias = 0.0
    layer.cells[0].recurrent_keep_prob = 1.0
    x = random(T, B, X)
    output, final = layer(x, seed=SEED)
    for direction, one in enumerate(layer.cells):
        expected, expected_final = one.sequence(
            x, seed=philox.branch(SEED, direction), reverse=direction == 1
        )
        assert torch.equal(output[..., direction * N : (direction + 1) * N], expected)
        for part, wanted in zip(final, expected_final, strict=True):
            assert torch.equal(part[direction], wanted)


@each_cell
def test_both_directions_are_one_call_of_the_backend(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = []
    native = backends.implementation(cell.name, "native")

    def forward(calls: Any, save: bool) -> Any:
        counts.append(len(calls))
        return native.forward(calls, save)

    counted = native._replace(forward=forward)
    monkeypatch.setitem(backends._implementations[cell.name], "native", counted)
    make_layer(cell, num_layers=2, bidirectional=True)(random(T, B, X))
    make_layer(cell)(random(T, B, X))
    assert counts == [2, 2, 1]


@each_cell
def test_layers_read_the_output_of_the_one_below(cell: Cell) -> None:
    layer = make_layer(cell, num_layers=3, bidirectional=True, static_size=S)
    x, static, state = random(T, B, X), random(B, S), random_state(layer, 6)
    output, final = layer(x, state, static=static, lengths=LENGTHS)
    below = x
    for index in range(3):
        outputs = []
        for direction in range(2):
            place = 2 * index + direction
            hidden, parts = layer.cells[place].sequence(
                below,
                tuple(part[place] for part in state),
                static=static,
                lengths=LENGTHS,
                reverse=direction == 1,
            )
            outputs.append(hidden)
            for part, wanted in zip(final, parts, strict=True):
                assert_close(part[place], wanted, FLOAT64)
        below = torch.cat(outputs, -1)
    assert_close(output, below, FLOAT64)


@each_cell
def test_batch_first_only_swaps_the_axes(cell: Cell) -> None:
    x = random(T, B, X)
    layer = make_layer(cell, num_layers=2)
    swapped = make_layer(cell, num_layers=2, batch_first=True)
    output, final = layer(x, lengths=LENGTHS)
    output_swapped, final_swapped = swapped(x.transpose(0, 1), lengths=LENGTHS)
    assert torch.equal(output_swapped, output.transpose(0, 1))
    for part, expected in zip(final_swapped, final, strict=True):
        assert torch.equal(part, expected)


@each_cell
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_single_sequence_needs_no_batch_axis(cell: Cell, batch_first: bool) -> None:
    layer = make_layer(cell, bidirectional=True, static_size=S, batch_first=batch_first)
    x, static, state = random(T, X), random(S), random_state(layer, 2)
    alone = tuple(part[:, 0] for part in state)
    batched = tuple(part[:, :1] for part in state)
    lengths = torch.tensor([4])
    output, final = layer(x, alone, static=static, lengths=lengths)
    axis = 0 if batch_first else 1
    expected, expected_final = layer(
        x.unsqueeze(axis), batched, static=static[None], lengths=lengths
    )
    assert torch.equal(output, expected.squeeze(axis))
    assert (output[4:] == 0).all()
    for part, wanted in zip(final, expected_final, strict=True):
        assert torch.equal(part, wanted[:, 0])


@each_cell
def test_recurrent_dropout_acts_in_training_mode_only(cell: Cell) -> None:
    layer = make_layer(cell, recurrent_keep_prob=0.5)
    plain = make_layer(cell)
    x = random(T, B, X)
    expected, _ = plain(x)
    assert not torch.equal(layer(x)[0], expected)
    assert torch.equal(layer.eval()(x, seed=SEED)[0], expected)


@each_cell
def test_a_seed_makes_dropout_reproducible_and_torchs_generator_gives_one(cell: Cell) -> None:
    layer = make_layer(cell, num_layers=2, bidirectional=True, recurrent_keep_prob=0.5, dropout=0.5)
    x = random(T, B, X)
    assert torch.equal(layer(x, seed=SEED)[0], layer(x, seed=SEED)[0])
    assert not torch.equal(layer(x, seed=SEED)[0], layer(x, seed=SEED + 1)[0])
    torch.manual_seed(1)
    first, second = layer(x)[0], layer(x)[0]
    torch.manual_seed(1)
    assert torch.equal(layer(x)[0], first)
    assert not torch.equal(first, second)


@each_cell
def test_a_single_step_of_the_cell_drops_by_its_own_seed(cell: Cell) -> None:
    one = make_layer(cell, recurrent_keep_prob=0.5).cells[0]
    x = random(B, X)
    assert torch.equal(one(x, seed=SEED)[0], one(x, seed=SEED)[0])
    assert not torch.equal(one(x, seed=SEED)[0], one(x, seed=SEED + 1)[0])
    torch.manual_seed(1)
    first = one(x)[0]
    torch.manual_seed(1)
    assert torch.equal(one(x)[0], first)


@each_cell
def test_directions_and_layers_draw_masks_of_their_own(cell: Cell) -> None:
    layer = make_layer(cell, bidirectional=True, recurrent_keep_prob=0.5)
    layer.cells[1].load_state_dict(layer.cells[0].state_dict())
    one_step = random(1, B, X)  # so that direction itself makes no difference
    output, _ = layer(one_step, seed=SEED)
    assert not torch.equal(output[..., :N], output[..., N:])
    assert torch.equal(*layer.eval()(one_step)[0].chunk(2, dim=-1))


@each_cell
def test_dropout_between_layers_falls_on_all_outputs_but_the_last(cell: Cell) -> None:
    layer = make_layer(cell, num_layers=2, dropout=0.25)
    x = random(T, B, X)
    output, _ = layer(x, seed=SEED)
    below, _ = layer.cells[0].sequence(x)
    key = philox.branch(SEED, 1)
    mask = philox.keep_mask(key, T, B, N, 0.75, Stream.OUTPUT_DROPOUT)
    assert 0 < mask.sum() < mask.numel()
    expected, _ = layer.cells[1].sequence(below * mask / 0.75)
    assert_close(output, expected, FLOAT64)
    undropped, _ = layer.cells[1].sequence(below)
    assert_close(layer.eval()(x)[0], undropped, FLOAT64)


@each_cell
def test_a_shard_of_the_batch_drops_as_its_rows_of_the_whole(cell: Cell) -> None:
    layer = make_layer(cell, num_layers=2, bidirectional=True, recurrent_keep_prob=0.5, dropout=0.5)
    x = random(T, B, X)
    output, _ = layer(x, seed=SEED, row_offset=7)
    shard, _ = layer(x[:, 1:3], seed=SEED, row_offset=8)
    assert_close(shard, output[:, 1:3], FLOAT64)


@each_cell
def test_state_dict_round_trip(cell: Cell) -> None:
    layer = make_layer(cell, num_layers=2, bidirectional=True, static_size=S)
    other = make_layer(cell, num_layers=2, bidirectional=True, static_size=S, seed=1)
    x, static = random(T, B, X), random(B, S)
    expected, _ = layer(x, static=static)
    assert not torch.equal(other(x, static=static)[0], expected)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x, static=static)[0], expected)
    assert len(layer.state_dict()) == 4 * len(cell.weights_type._fields)


@each_cell
def test_dtype_and_device_place_the_weights(cell: Cell) -> None:
    layer = cell.layer(X, N, dtype=torch.bfloat16, **cell.sizes)
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.bfloat16}
    output, final = layer(torch.randn(T, B, X, dtype=torch.bfloat16))
    assert output.dtype == torch.bfloat16
    assert final[1].dtype == torch.float32
    assert output.isfinite().all()
    assert next(cell.layer(X, N, device="meta", **cell.sizes).parameters()).is_meta


@each_cell
def test_backward_uses_the_backend_of_its_forward_pass(
    cell: Cell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("the backend that was not asked for has run")

    trap = Implementation(refuse, refuse, refuse)
    monkeypatch.setitem(backends._implementations[cell.name], "native", trap)
    layer = make_layer(cell)
    x = random(T, B, X).requires_grad_()
    with pytest.raises(AssertionError, match="has run"):
        layer(x)
    with sketchrnn_fast.backend("reference"):
        loss = random_loss(*layer(x))
    loss.backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@each_cell
def test_a_layer_compiles_without_a_break_in_the_graph(cell: Cell) -> None:
    layer = make_layer(
        cell,
        num_layers=2,
        bidirectional=True,
        static_size=S,
        recurrent_keep_prob=0.7,
        dropout=0.3,
    )
    x, static = random(T, B, X).requires_grad_(), random(B, S).requires_grad_()
    leaves = [x, static, *layer.parameters()]

    def function(x: torch.Tensor, static: torch.Tensor) -> Any:
        with sketchrnn_fast.backend("reference"):
            return layer(x, static=static, lengths=LENGTHS, seed=SEED)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    output, final = function(x, static)
    expected = torch.autograd.grad(random_loss(output, final), leaves)
    compiled_output, compiled_final = compiled(x, static)
    assert_close(compiled_output, output, FLOAT64)
    found = torch.autograd.grad(random_loss(compiled_output, compiled_final), leaves)
    for grad, wanted in zip(found, expected, strict=True):
        assert_close(grad, wanted, FLOAT64, "gradient")


@each_cell
def test_a_cell_compiles_and_draws_its_seed_inside_the_graph(cell: Cell) -> None:
    one = make_layer(cell, recurrent_keep_prob=0.5).cells[0]
    compiled = torch.compile(one, fullgraph=True, backend="aot_eager")
    x = random(B, X)
    torch.manual_seed(5)
    first, second = compiled(x)[0], compiled(x)[0]
    torch.manual_seed(5)
    assert torch.equal(compiled(x)[0], first)
    assert not torch.equal(first, second)
    assert_close(compiled(x, seed=SEED)[0], one(x, seed=SEED)[0], FLOAT64)


# ---- Bad arguments ----

SIZES = (
    "{0}: input_size is {1}, hidden_size {2} and static_size {3}; the first two must be at least "
    "1, the last at least 0"
)


@each_cell
@pytest.mark.parametrize("sizes", [(0, 5, 0), (3, 0, 0), (3, 5, -1)])
def test_a_bad_size_is_one_clear_sentence(cell: Cell, sizes: tuple[int, int, int]) -> None:
    sentence = SIZES.format(cell.one_step.__name__, *sizes)
    for module in (cell.layer, cell.one_step):
        with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
            module(*sizes[:2], static_size=sizes[2], **cell.sizes)


@each_cell
@pytest.mark.parametrize("value", [0.0, -0.5, 1.5, float("nan")])
def test_a_bad_probability_is_one_clear_sentence(cell: Cell, value: float) -> None:
    sentence = (
        f"{cell.one_step.__name__}: recurrent_keep_prob is {value}; it is the probability to "
        "keep, above 0 and up to 1"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        cell.layer(X, N, recurrent_keep_prob=value, **cell.sizes)


@each_cell
def test_bad_numbers_of_layers_and_dropout_are_refused(cell: Cell) -> None:
    name = cell.layer.__name__
    with pytest.raises(ValueError, match=f"^{name}: num_layers is 0; it must be at least 1$"):
        cell.layer(X, N, num_layers=0, **cell.sizes)
    for value in (1.0, -0.1):
        with pytest.raises(ValueError, match=f"^{name}: dropout is {value}; it is the probab"):
            cell.layer(X, N, dropout=value, **cell.sizes)


@each_cell
def test_one_step_takes_a_batch_of_rows(cell: Cell) -> None:
    one = make_layer(cell).cells[0]
    with pytest.raises(ValueError, match=r"^x has shape \[6, 4, 3\]; one step takes \[B, X\]$"):
        one(random(T, B, X))


@pytest.mark.parametrize("sizes", [(0, 2), (3, 0)])
def test_bad_hyper_sizes_are_refused(sizes: tuple[int, int]) -> None:
    sentence = (
        f"HyperLSTMCell: hyper_num_units is {sizes[0]} and hyper_embedding_size {sizes[1]}; both "
        "must be at least 1"
    )
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        sketchrnn_fast.nn.HyperLSTMCell(
            X, N, hyper_num_units=sizes[0], hyper_embedding_size=sizes[1]
        )
