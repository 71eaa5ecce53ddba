"""Which class is drawn: labels for models that are told one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.nn import SketchRNN
from sketchrnn_fast.ops.sampler_checks import check_whole

Label = int | str
Labels = Label | Sequence[Label] | Tensor


def labels_of(
    model: SketchRNN, labels: Labels | None, count: int, seed: int | None = None
) -> Tensor | None:
    """The classes of `count` sketches.

    Args:
        labels: one class for all, by its number or name, or one for each.
        seed: without labels, sketch i has the class (seed + i) modulo the number of classes;
            None where it must be said.

    Returns:
        int64 [count]; None for a model without classes.

    Raises:
        UserError: the model has no classes but labels are given, there is no such class, or there
            are not as many labels as sketches.
    """
    total = model.config.num_classes
    if not total:
        if labels is not None:
            raise UserError("this model has no classes; a class can be named where it has some")
        return None
    if labels is None:
        if seed is None:
            raise UserError(f"this model has {total} classes; the sketches' class must be named")
        return torch.tensor([(seed + i) % total for i in range(count)])
    if isinstance(labels, Tensor):
        labels = labels.tolist()
    if isinstance(labels, int | str):
        return torch.full((count,), class_number(model, labels))
    numbers = [class_number(model, label) for label in labels]
    if len(numbers) != count:
        raise UserError(f"there are {len(numbers)} labels for {count} sketches; each has one")
    return torch.tensor(numbers, dtype=torch.int64)


def class_number(model: SketchRNN, label: Label) -> int:
    """The number of a class, by its name or its number.

    Raises:
        UserError: there is no such class.
    """
    names, total = model.config.class_names, model.config.num_classes
    if isinstance(label, str):
        if label in names:
            return names.index(label)
        if not label.isdecimal():
            known = f", {', '.join(names)}" if names else ""
            raise UserError(f"there is no class {label!r}; this model has {total}{known}")
        label = int(label)
    return check_whole("the class", label, 0, total - 1)


def condition(model: SketchRNN, z: Tensor | None, labels: Tensor | None) -> Tensor | None:
    """What a sampler takes for z: z, with the embedding of the class beside it if there is one.

    Raises:
        UserError: z is not what the model takes.
    """
    if labels is None:
        return z
    if (z is not None) != model.config.conditional:
        kind = "needs z" if model.config.conditional else "is unconditional: it has no z"
        raise UserError(f"this model {kind}")
    if z is not None and tuple(z.shape) != (len(labels), model.config.z_size):
        raise UserError(
            f"z has shape {list(z.shape)}; it takes [{len(labels)}, {model.config.z_size}]"
        )
    weight = model.output.linear.weight
    with torch.no_grad():
        placed = None if z is None else z.to(weight)
        return model.condition(placed, labels.to(weight.device))
