"""A run learns, repeats itself to the bit, resumes, and refuses what it cannot do."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawings import TINY_MODEL, polygon, write_polygons
from numpy.typing import NDArray
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training.runs import Run, assert_same_run, records

from sketchrnn_fast import generation
from sketchrnn_fast.config import ModelConfig, TrainConfig
from sketchrnn_fast.data import (
    DatasetError,
    SketchDataset,
    normalizing_scale_factor,
    random_batch,
)
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import (
    Evaluation,
    Optimiser,
    TrainingError,
    checkpoints,
    load_model,
    loop,
    train,
)


def weights(log_root: Path) -> dict[str, torch.Tensor]:
    return load_model(checkpoints.find(log_root, "last")).state_dict()


def test_a_run_writes_checkpoints_metrics_and_curves(run: Run) -> None:
    result = run(num_steps=20, save_every=8)
    found = records(result.log_root)
    assert [(record["step"], record["split"]) for record in found if record["split"] != "test"] == [
        (8, "valid"),
        (16, "valid"),
        (20, "train"),
        (20, "valid"),
    ]
    for record in found:
        assert np.isfinite([record["cost"], record["reconstruction"], record["kl"]]).all()
    assert {"learning_rate", "kl_weight", "seconds", "sketches_per_second"} <= set(found[-3])
    assert (result.log_root / "curves.png").stat().st_size > 1000
    assert result.state.step == 20


def test_tensorboard_has_magentas_tags(run: Run) -> None:
    result = run(num_steps=20)
    events = EventAccumulator(str(result.log_root))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "Num_Trainable_Params",
        *("Train_Cost", "Train_Reconstr_Cost", "Train_KL_Cost"),
        *("Learning_Rate", "KL_Weight", "Gradient_Norm", "Clip_Fraction", "Time_Taken_Train"),
        *("Valid_Cost", "Valid_Reconstr_Cost", "Valid_KL_Cost", "Time_Taken_Valid"),
        *("Best_Valid_Cost", "Eval_Cost", "Eval_Reconstr_Cost", "Eval_KL_Cost", "Time_Taken_Eval"),
    }
    (event,) = events.Scalars("Train_Cost")
    (record,) = [record for record in records(result.log_root) if record["split"] == "train"]
    assert event.step == 20
    assert event.value == pytest.approx(record["cost"])


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    run: Run, tmp_path: Path
) -> None:
    run(tmp_path / "first")
    torch.manual_seed(99)  # the run's seed governs, not torch's generator
    run(tmp_path / "second")
    assert_same_run(tmp_path / "first", tmp_path / "second")
    run(tmp_path / "third", seed=1)
    assert records(tmp_path / "third")[0]["cost"] != records(tmp_path / "first")[0]["cost"]


def test_resuming_cuts_later_records_away(run: Run, tmp_path: Path) -> None:
    run(tmp_path / "whole", num_steps=6)
    run(tmp_path / "parts", num_steps=3)
    with (tmp_path / "parts" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "split": "train", "cost": 1}\n{"step": 6, "spl')
    run(tmp_path / "parts", num_steps=6, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("objective", ["magenta", "masked"])
@pytest.mark.parametrize("conditional", [True, False])
def test_every_kind_of_model_trains(run: Run, objective: str, conditional: bool) -> None:
    result = run(
        objective=objective,
        conditional=conditional,
        use_input_dropout=True,
        use_output_dropout=True,
        num_steps=40,
        save_every=20,
        learning_rate=0.01,
    )
    first, second = (record for record in records(result.log_root) if record["split"] == "valid")
    assert second["cost"] < first["cost"]
    assert (second["kl"] == 0) == (not conditional)


def test_max_seq_len_leaves_longer_sketches_out(run: Run) -> None:
    result = run(max_seq_len=7)
    assert load_model(result.log_root).config.max_seq_len == 7


def test_a_run_is_not_overwritten(run: Run) -> None:
    run()
    with pytest.raises(TrainingError, match=r"holds a run already; add --resume_training"):
        run()


def test_a_log_root_that_is_a_file_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TrainingError, match="is a file, not a folder"):
        run(tmp_path / "file" / "run")


def test_other_hyper_parameters_are_refused_on_resuming(run: Run) -> None:
    run()
    with pytest.raises(TrainingError, match=r"learning_rate is 0.1, but the run in .* has 0.001"):
        run(resume=True, learning_rate=0.1)
    with pytest.raises(TrainingError, match="dec_rnn_size is 17, but the run in"):
        run(resume=True, dec_rnn_size=17)


def test_other_data_is_refused_on_resuming(run: Run, tmp_path: Path) -> None:
    run()
    write_polygons(tmp_path / "polygons.npz", train=41)
    with pytest.raises(TrainingError, match="this is not the data that it was started on"):
        run(resume=True, num_steps=9, data_dir=tmp_path)


def test_a_run_that_was_killed_before_its_first_checkpoint_can_be_started_again(
    run: Run, tmp_path: Path
) -> None:
    run(tmp_path / "whole")
    (tmp_path / "killed" / "checkpoints" / ".partial-step-3").mkdir(parents=True)
    (tmp_path / "killed" / "metrics.jsonl").write_text(
        '{"step": 2, "split": "train", "cost": 1, "reconstruction": 1, "kl": 1}\n'
    )
    run(tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


def test_odd_lines_in_the_metrics_do_not_stop_a_resumed_run(run: Run, tmp_path: Path) -> None:
    run(tmp_path / "whole", num_steps=6)
    run(tmp_path / "parts", num_steps=3)
    with (tmp_path / "parts" / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 3, "split": [], "cost": 1}\n{"step": "x"}\n{"step": 1}\n')
        file.write(b'[1]\n\xff\n{"step": 2, "split": "train"}\n')
    run(tmp_path / "parts", num_steps=6, resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_run_is_left_as_it_is(run: Run) -> None:
    assert run().steps == 6
    assert run(resume=True).steps == 0


def test_fewer_sketches_than_a_batch_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="the train split has 40 sketches and batch_size is 41"):
        run(batch_size=41)
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_stops_the_run(run: Run) -> None:
    with pytest.raises(TrainingError, match="step 2: the loss is not finite"):
        run(num_steps=40, save_every=100, learning_rate=1e38, grad_clip=1e30)


def test_weights_that_are_not_finite_are_not_saved(run: Run, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="step 1: weights are not finite: "):
        run(num_steps=6, save_every=1, learning_rate=1e39, grad_clip=1e30)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_an_evaluation_that_is_not_finite_stops_the_run_and_saves_nothing(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(num_steps=3)
    before, written = weights(tmp_path / "run"), records(tmp_path / "run")
    evaluate = loop.evaluate

    def evaluate_to_nan(*arguments: Any, **options: Any) -> Evaluation:
        return replace(evaluate(*arguments, **options), cost=float("nan"))

    monkeypatch.setattr(loop, "evaluate", evaluate_to_nan)
    with pytest.raises(TrainingError, match="step 6: the cost of valid is nan"):
        run(num_steps=6, resume=True)
    assert records(tmp_path / "run") == written
    for name, tensor in weights(tmp_path / "run").items():
        assert torch.equal(tensor, before[name])


def test_a_model_that_memory_cannot_hold_is_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"dec_rnn_size 1048576 .* cannot be made here"):
        run(dec_rnn_size=2**20)
    assert not (tmp_path / "run").exists()


def test_tensorboard_shows_a_run_once_though_it_was_started_twice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(num_steps=40, save_every=40)
    run(num_steps=20, save_every=20)
    run(num_steps=40, save_every=20, resume=True)
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert [event.step for event in events.Scalars("Train_Cost")] == [20, 40]


def test_a_terminal_of_80_columns_shows_step_figures_and_time(run: Run) -> None:
    screen = io.StringIO()
    run(num_steps=20, console=Console(file=screen, force_terminal=True, width=80))
    shown = screen.getvalue()
    for words in ("20/20", "cost", "kl weight", "sketches/s", "left"):
        assert words in shown
    assert "…" not in shown


def test_training_on_real_drawings_brings_the_validation_loss_down(
    shared: Path, tmp_path: Path
) -> None:
    """aaron_sheep, a small layer_norm model, 100 steps: well below the start."""
    model = ModelConfig(**{**TINY_MODEL, "enc_rnn_size": 16, "dec_rnn_size": 32, "num_mixture": 5})
    config = TrainConfig(
        data_set=("aaron_sheep.npz",),
        num_steps=100,
        save_every=50,
        batch_size=16,
        learning_rate=0.005,
    )
    result = train(model, config, tmp_path / "run", data_dir=shared / "data")
    costs = [record["cost"] for record in records(result.log_root) if record["split"] == "valid"]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < 0.5 * first_cost(model, config, shared / "data")


def first_cost(model_config: ModelConfig, config: TrainConfig, data_dir: Path) -> float:
    """The validation cost before training."""
    from sketchrnn_fast.training.evaluation import evaluate
    from sketchrnn_fast.training.setup import build_model, load_splits

    splits = load_splits(config, data_dir, None)
    model = build_model(model_config, config, splits, "cpu")
    return evaluate(model, splits.valid, config).cost


def test_a_model_can_learn_eight_drawings_by_heart() -> None:
    """Overfitting: the decoder draws each again from its z, end of sketch included.

    The scale of the drawings is varied by a tenth, as augmentation does: exact repetition would
    make the Gaussians so sharp that the 1e-6 in the density stops the gradient of every point
    that they miss (quirk 21 of the original).
    """
    sketches = [polygon(3 + index % 6, 10.0, index * np.pi / 4) for index in range(8)]
    scale = float(normalizing_scale_factor(np.concatenate(sketches)))
    dataset = SketchDataset.from_sketches(sketches, scale_factor=scale)
    torch.manual_seed(3)
    model = SketchRNN(
        ModelConfig(
            enc_model="layer_norm",
            dec_model="layer_norm",
            enc_rnn_size=32,
            dec_rnn_size=64,
            z_size=8,
            num_mixture=5,
            max_seq_len=10,
            use_recurrent_dropout=False,
        )
    )
    model.scale_factor.fill_(scale)
    optimiser = Optimiser(model.parameters(), 1.0)
    for step in range(600):
        batch = random_batch(
            dataset, 8, 10, seed=step, random_scale_factor=0.1, augment_stroke_prob=0.0
        )
        strokes, lengths = torch.from_numpy(batch.strokes), torch.from_numpy(batch.lengths)
        losses = model.loss(strokes, lengths, kl_weight=0.0, noise=torch.zeros(8, 8))
        losses.total.backward()
        optimiser.step(0.01 * 0.997**step)
    # Nats, over B · T rows of which 60 % are points: a density of e³ at each point. The entropy of
    # the varied scale allows no more.
    assert losses.offset.item() < -1.7
    assert losses.pen.item() < 0.05
    originals = [dataset[index] * np.array([scale, scale, 1], np.float32) for index in range(8)]
    drawn = generation.sample(model, 8, z=generation.encode(model, originals), greedy=True)
    for original, copy in zip(originals, drawn, strict=True):
        assert is_copy(original, copy)


def is_copy(original: NDArray[np.float32], copy: NDArray[np.float32]) -> bool:
    """The same pen states, and no point farther off than a tenth of the drawing's extent."""
    if len(copy) != len(original) or not np.array_equal(copy[:, 2], original[:, 2]):
        return False
    path, other = (np.cumsum(sketch[:, :2], axis=0) for sketch in (original, copy))
    return bool(np.abs(path - other).max() < 0.1 * np.ptp(path))
