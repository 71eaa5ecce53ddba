"""Classes of sketches: one a dataset of the list, by the dataset's name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from sketchrnn_fast.data.errors import DatasetError


def class_names(data_set: Sequence[str]) -> tuple[str, ...]:
    """The name of each dataset's class: that of its file, without folder and suffix.

    Raises:
        DatasetError: two would have one name.
    """
    names = tuple(PurePath(name).name.removesuffix(".npz") for name in data_set)
    for name in names:
        if names.count(name) > 1:
            raise DatasetError(
                f"data_set has {names.count(name)} datasets of the name {name}; with num_classes, "
                "each is a class with a name of its own, which class_names can give"
            )
    return names


def labels_of(
    data_set: Sequence[str], classes: Sequence[str], trained_on: Sequence[str] | None
) -> list[int]:
    """The class of each dataset, as an index into `classes`.

    Args:
        trained_on: the list whose datasets are the classes, in order; another list's are classes
            by their names.

    Raises:
        DatasetError: there is no class of a dataset's name.
    """
    if trained_on is not None and tuple(data_set) == tuple(trained_on):
        return list(range(len(data_set)))
    labels = []
    for name in class_names(data_set):
        if name not in classes:
            raise DatasetError(
                f"{name} is none of the model's classes, which are {', '.join(classes)}; a dataset "
                "is named after its class"
            )
        labels.append(list(classes).index(name))
    return labels
