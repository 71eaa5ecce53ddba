"""Training on classes, one a dataset, and drawing one of them."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawings import polygon, write_polygons
from rich.console import Console
from training.conftest import MODEL, TRAIN

from sketchrnn_fast import generation
from sketchrnn_fast.data import DatasetError, class_names, labels_of, load, write_npz
from sketchrnn_fast.errors import UserError
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.training import TrainingError, load_model, train

CORNERS = {"triangle": 3, "octagon": 8}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes that differ in their number of points: 4 and 9."""
    folder = tmp_path_factory.mktemp("classes")
    random = np.random.default_rng(0)
    for name, corners in CORNERS.items():
        sketches = [
            polygon(corners, size, turn)
            for size, turn in random.uniform([5, 0], [15, np.pi], (60, 2))
        ]
        parts = {"train": sketches[:40], "valid": sketches[40:50], "test": sketches[50:]}
        write_npz(folder / f"{name}.npz", parts)
    return folder


def train_classes(data_dir: Path, log_root: Path, model: Any = MODEL, **fields: Any) -> SketchRNN:
    options = {"data_set": ("triangle.npz", "octagon.npz"), "num_steps": 6, **fields}
    train(
        replace(model, **{"num_classes": 2, "label_embedding_size": 4}),
        replace(TRAIN, **options),
        log_root,
        data_dir=data_dir,
        console=Console(file=io.StringIO()),
        pictures=0,
    )
    return load_model(log_root)


def test_labels_follow_their_sketches_through_sorting(data_dir: Path) -> None:
    splits = load(["triangle.npz", "octagon.npz"], data_dir)
    for split in (splits.train, splits.valid, splits.test):
        indices = np.arange(len(split))
        assert np.array_equal(split.labels(indices), (split.lengths[indices] == 9).astype(int))
    swapped = load(["triangle.npz", "octagon.npz"], data_dir, labels=[1, 0])
    assert np.array_equal(
        swapped.train.labels(np.arange(80)), 1 - splits.train.labels(np.arange(80))
    )


@pytest.mark.parametrize("conditional", [True, False])
def test_a_model_learns_what_its_classes_look_like(
    data_dir: Path, tmp_path: Path, conditional: bool
) -> None:
    """Triangles have four points and octagons nine; so do those that are drawn."""
    model = replace(MODEL, conditional=conditional, use_recurrent_dropout=False)
    trained = train_classes(
        data_dir,
        tmp_path / "run",
        model,
        **{"num_steps": 250, "save_every": 250, "batch_size": 16, "learning_rate": 0.01},
        augment_stroke_prob=0.0,
    )
    assert trained.config.class_names == ("triangle", "octagon")
    for name, corners in CORNERS.items():
        drawn = generation.sample(trained, 40, labels=name, temperature=0.3)
        lengths = np.array([len(sketch) for sketch in drawn])
        assert np.median(lengths) == corners + 1, (name, lengths)
        assert np.mean(np.abs(lengths - (corners + 1)) <= 2) > 0.9, (name, lengths)


def test_pictures_and_every_way_of_drawing_take_classes(data_dir: Path, tmp_path: Path) -> None:
    model = train_classes(data_dir, tmp_path / "run")
    sketches = [polygon(3, 8, 0.1), polygon(8, 8, 0.2)]
    named = generation.sample(model, 2, labels=["octagon", 0], temperature=0.4)
    counted = generation.sample(model, 2, labels=torch.tensor([1, 0]), temperature=0.4)
    in_turn = generation.sample(model, 2, seed=1, temperature=0.4)
    also = generation.sample(model, 2, seed=1, labels=[1, 0], temperature=0.4)
    for first, second in ((named, counted), (in_turn, also)):
        assert all(map(np.array_equal, first, second))
    drawn = generation.reconstruct(model, sketches, labels=[0, 1])
    assert len(drawn) == 2
    assert len(generation.interpolate(model, sketches, 3, label="octagon")) == 3
    assert len(generation.complete(model, [one[:2] for one in sketches], labels=1)) == 2
    assert len(generation.temperature_sweep(model, [0.1, 0.5], 2, labels="0")) == 4


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("cat", "there is no class 'cat'; this model has 2, triangle, octagon"),
        (2, "the class is 2; it must be a whole number from 0 to 1"),
        ("7", "the class is 7; it must be a whole number from 0 to 1"),
        ([0, 1, 1], "there are 3 labels for 2 sketches"),
    ],
)
def test_classes_that_are_none_are_not_drawn(labels: Any, message: str) -> None:
    config = replace(MODEL, num_classes=2, class_names=("triangle", "octagon"))
    with pytest.raises(UserError, match=message):
        generation.sample(SketchRNN(config), 2, labels=labels)


def test_a_class_must_be_named_where_none_is_natural() -> None:
    config = replace(MODEL, num_classes=2)
    with pytest.raises(UserError, match="this model has 2 classes; the sketches' class must be"):
        generation.reconstruct(SketchRNN(config), [polygon(3, 8, 0)])
    with pytest.raises(UserError, match="this model has no classes"):
        generation.sample(SketchRNN(MODEL), 1, labels=0)


def test_other_numbers_of_datasets_than_classes_are_refused(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"num_classes is 2, but data_set names 1; .* 0 to 0"):
        train_classes(data_dir, tmp_path / "run", data_set=("octagon.npz",))
    with pytest.raises(DatasetError, match="2 datasets of the name octagon"):
        train_classes(data_dir, tmp_path / "run", data_set=("octagon.npz", "octagon.npz"))
    assert not (tmp_path / "run").exists()


def test_datasets_are_classes_by_their_names() -> None:
    assert class_names(["a/cat.npz", "hershey"]) == ("cat", "hershey")
    assert labels_of(["dog.npz", "cat.npz"], ("cat", "bird", "dog"), None) == [2, 0]
    assert labels_of(["a.npz", "b.npz"], ("cat", "bird"), ("a.npz", "b.npz")) == [0, 1]
    with pytest.raises(DatasetError, match="cow is none of the model's classes, which are cat"):
        labels_of(["cow.npz"], ("cat",), ("cat.npz",))


def test_a_run_on_classes_resumes_to_the_bit(data_dir: Path, tmp_path: Path) -> None:
    whole = train_classes(data_dir, tmp_path / "whole", num_steps=6)
    train_classes(data_dir, tmp_path / "parts", num_steps=3)
    train(
        replace(MODEL, num_classes=2, label_embedding_size=4),
        replace(TRAIN, data_set=("triangle.npz", "octagon.npz"), num_steps=6),
        tmp_path / "parts",
        data_dir=data_dir,
        resume=True,
        console=Console(file=io.StringIO()),
        pictures=0,
    )
    resumed = load_model(tmp_path / "parts").state_dict()
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed[name]), name


def test_polygons_without_classes_have_the_label_zero(tmp_path: Path) -> None:
    write_polygons(tmp_path / "polygons.npz")
    train_split = load(["polygons.npz"], tmp_path).train
    assert not train_split.labels(np.arange(len(train_split))).any()
