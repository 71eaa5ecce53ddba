"""Pictures of the records: throughput over each size with peers and floor in one picture, losses
over the time of training, and the parts of a training step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from records import Record

OURS, FLOOR = "ours", "floor (torch.mm alone)"
CURVES, PARTS = "quality.png", "train-parts.png"
RATIOS = ("ops", "train", "sample")
LABELS = {
    "N": "hidden size N",
    "B": "batch B",
    "T": "sequence length T",
    "threads": "threads",
    "temperature": "temperature",
    "points": "points of a sketch",
    "sketches": "sketches",
    "ranks": "ranks",
}


def draw(records: list[Record], folder: Path) -> list[Path]:
    """Every picture that these records make; gives their paths."""
    swept = [one for one in records if one.get("sweep")]
    for suite, axis in axes_of(records):
        points = [one for one in swept if (one["suite"], one["sweep"]["axis"]) == (suite, axis)]
        _draw_axis(suite, axis, points, folder / f"{suite}-{axis}.png")
    if curves := [one for one in records if one.get("curve")]:
        _draw_curves(curves, folder / CURVES)
    if parts := [one for one in records if one.get("part")]:
        _draw_parts(parts, folder / PARTS)
    return [folder / name for name in names(records)]


def names(records: list[Record]) -> list[str]:
    """The names of the pictures that `draw` makes of these records."""
    found = [f"{suite}-{axis}.png" for suite, axis in axes_of(records)]
    found += [CURVES] if any(one.get("curve") for one in records) else []
    return found + ([PARTS] if any(one.get("part") for one in records) else [])


def remove(records: list[Record], folder: Path) -> None:
    """Delete the pictures of an earlier run, so that none is taken for a new one's."""
    for name in names(records):
        (folder / name).unlink(missing_ok=True)


def axes_of(records: list[Record]) -> list[tuple[str, str]]:
    """Each suite and axis over which something was swept."""
    swept = [one for one in records if one.get("sweep")]
    return list(dict.fromkeys((one["suite"], one["sweep"]["axis"]) for one in swept))


def _axes(panels: int, height: float = 4.0) -> tuple[Any, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0 * panels, height), layout="constrained")
    return figure, list(figure.subplots(1, panels, squeeze=False)[0])


def _draw_axis(suite: str, axis: str, points: list[Record], path: Path) -> None:
    """Throughput over one axis, a panel for each thing that was swept."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    panels = list(dict.fromkeys(one["sweep"]["of"] for one in points))
    figure, axes = _axes(len(panels))
    for panel, of in zip(axes, panels, strict=True):
        here = [one for one in points if one["sweep"]["of"] == of]
        for label, line in lines(here).items():
            style = {"linestyle": "--", "color": "grey"} if label == FLOOR else {"marker": "o"}
            if label == OURS:
                style |= {"linewidth": 2.5, "color": "black"}
            values, rates = zip(*sorted(line.items()), strict=True)
            panel.plot(values, rates, label=label, **style)
        values = sorted({one["sweep"]["value"] for one in here})
        if values[0] > 0 and len(values) > 2 and values[-1] / values[0] > 8:
            panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(values, [f"{value:g}" for value in values])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(EngFormatter())
        panel.yaxis.set_minor_locator(NullLocator())
        panel.set(title=of, xlabel=LABELS.get(axis, axis), ylabel=f"{here[0]['work_unit']} / s")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    figure.suptitle(f"{suite}: throughput, higher is faster")
    figure.savefig(path, dpi=110)


def lines(points: list[Record]) -> dict[str, dict[float, float]]:
    """Throughput by value of the axis: ours, each peer, and the floor."""
    found: dict[str, dict[float, float]] = {OURS: {}}
    for one in points:
        value, work = one["sweep"]["value"], one["work"]
        found[OURS][value] = work / one["ours_s"]
        found.setdefault(one["peer"], {})[value] = work / one["peer_s"]
        if one["floor_s"] is not None:
            found.setdefault(FLOOR, {})[value] = work / one["floor_s"]
    return found


def _draw_curves(records: list[Record], path: Path) -> None:
    """Validation loss over seconds of training."""
    figure, (panel,) = _axes(1, height=4.5)
    curves: dict[str, list[list[float]]] = {}
    for one in records:
        curves.update(one["curve"])
    for name, curve in curves.items():
        seconds, losses = zip(*curve, strict=True)
        panel.plot(seconds, losses, marker="o", label=name)
    panel.set(xlabel="seconds of training", ylabel="validation loss, nats a point")
    panel.grid(alpha=0.3)
    panel.legend()
    figure.savefig(path, dpi=110)


def _draw_parts(records: list[Record], path: Path) -> None:
    """A bar for each kind of step, one piece a part."""
    steps = list(dict.fromkeys(one["part"]["of"] for one in records))
    names = list(dict.fromkeys(one["part"]["name"] for one in records))
    figure, (panel,) = _axes(1, height=1.2 + 0.4 * len(steps))
    figure.set_figwidth(9.0)
    left = [0.0] * len(steps)
    for name in names:
        of_step = {
            one["part"]["of"]: one["ours_s"] for one in records if one["part"]["name"] == name
        }
        widths = [of_step.get(step, 0.0) for step in steps]
        panel.barh(steps, widths, left=left, label=name)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    panel.invert_yaxis()
    panel.set(xlabel="seconds of a training step")
    figure.legend(ncols=len(names), fontsize="small", loc="outside lower center")
    figure.savefig(path, dpi=110)


def draw_ratios(first: list[Record], second: list[Record], path: Path) -> None:
    """The ratios of the suites `ops`, `train` and `sample` in two runs, with their p20 and p80."""
    of_both = [
        {
            f"{one['suite']}: {one['case']}, {one['peer']}": one
            for one in run
            if one["suite"] in RATIOS and one["ratio"] is not None and not one.get("part")
        }
        for run in (first, second)
    ]
    shown = [name for name in of_both[0] if name in of_both[1]]
    figure, (panel,) = _axes(1, height=1.0 + 0.22 * max(1, len(shown)))
    figure.set_figwidth(11.0)
    for number, of_run in enumerate(of_both):
        ratios = [of_run[name] for name in shown]
        middle = [one["ratio"] for one in ratios]
        # A median of quotients and a quotient of medians may lie apart.
        below = [max(0.0, one["ratio"] - one["ratio_p20"]) for one in ratios]
        above = [max(0.0, one["ratio_p80"] - one["ratio"]) for one in ratios]
        places = [place + 0.3 * number for place in range(len(shown))]
        label = ("first run", "second run")[number]
        panel.errorbar(middle, places, xerr=[below, above], fmt="o", markersize=4, label=label)
    panel.axvline(1.0, color="grey", linestyle="--")
    panel.set_xscale("log")
    panel.set_yticks(range(len(shown)), shown, fontsize="x-small")
    panel.invert_yaxis()
    panel.set(xlabel="peer's time over ours, with p20 and p80\nright of 1, ours takes less")
    panel.grid(alpha=0.3, axis="x")
    panel.legend()
    figure.savefig(path, dpi=110)
