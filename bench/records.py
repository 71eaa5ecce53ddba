"""The lines of the results: what each says, and how it is made from samples.

Every record has `suite`, `case`, `peer`, `ours_s`, `peer_s`, `ratio`, `floor_s` and `floor_share`,
each null where there is none. A ratio is the median of the peer's time over ours within a turn:
above 1, ours takes less.

| also | |
|---|---|
| `unit` | of the samples: `s`, `mib` (then `ours_mib`, `peer_mib`) or `exponent` (likewise) |
| `ours_p20`, `ours_p80`, `peer_p20`, `peer_p80` | percentiles of the samples |
| `ratio_p20`, `ratio_p80` | percentiles of the ratio within a turn |
| `ours_samples`, `peer_samples`, `floor_samples` | every sample, the n-th of each from turn n |
| `work`, `work_unit` | what one sample did, for instance 25000 `steps`; over time, throughput |
| `sweep` | where the record is a point of a plot: `of`, `axis` and `value` |
| `part` | where ours is a part of a training step: `of` and `name` |
| `curve`, `loss` | in `quality`: every run's validation losses over time, and the loss to reach |
| `target`, `spills`, `registers`, `shared_bytes` | in the suite `static`, of a compiled kernel |
| `environment` | machine, threads, versions and commit (`environment`); put in by `run` |
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]

CONTRACT = ("suite", "case", "peer", "ours_s", "peer_s", "ratio", "floor_s", "floor_share")
EXTRA = ("target", "spills", "registers", "shared_bytes")


def record(
    suite: str,
    case: str,
    peer: str,
    ours: Sequence[float],
    peers: Sequence[float],
    floor: Sequence[float] | None = None,
    *,
    unit: str = "s",
    work: tuple[float, str] | None = None,
    sweep: tuple[str, str, float] | None = None,
) -> Record:
    """Ours beside a peer, with every sample.

    Args:
        ours, peers: samples, the n-th of both taken next to each other.
        floor: samples of the least that must be done (`floor`), taken in the same turns.
        unit: of the samples, and the ending of `ours_…` and `peer_…`.
        work: how much one sample did, and of what.
        sweep: what is swept, the axis and the value of this point.
    """
    ours_median, peer_median = statistics.median(ours), statistics.median(peers)
    ratios = [peer / mine for mine, peer in zip(ours, peers, strict=True)]
    floor_s = None if floor is None else statistics.median(floor)
    result: Record = {
        "suite": suite,
        "case": case,
        "peer": peer,
        "unit": unit,
        "ours_s": None,
        "peer_s": None,
        f"ours_{unit}": ours_median,
        f"peer_{unit}": peer_median,
        "ratio": statistics.median(ratios),
        "floor_s": floor_s,
        "floor_share": None if floor_s is None else floor_s / ours_median,
    }
    for name, samples in (("ours", ours), ("peer", peers), ("ratio", ratios)):
        result[f"{name}_p20"], result[f"{name}_p80"] = percentiles(samples)
    result["ours_samples"], result["peer_samples"] = list(ours), list(peers)
    result["floor_samples"] = None if floor is None else list(floor)
    result["work"], result["work_unit"] = work or (None, None)
    names = ("of", "axis", "value")
    result["sweep"] = None if sweep is None else dict(zip(names, sweep, strict=True))
    return result


def fitted(suite: str, case: str, peer: str, ours: float, peers: float) -> Record:
    """Two exponents side by side; a ratio of exponents would say nothing."""
    result = record(suite, case, peer, [ours], [peers], unit="exponent")
    for name in ("ratio", "ratio_p20", "ratio_p80"):
        result[name] = None
    return result


def static(
    case: str, target: str, *, spills: int, registers: int | None, shared_bytes: int | None
) -> Record:
    """A kernel as the compiler made it for a target; nothing of it was run.

    Args:
        spills: spilled bytes (or registers, as the target's tools count) of a thread.
        registers: registers of a thread.
        shared_bytes: shared memory of a program.
    """
    result: Record = dict.fromkeys(CONTRACT)
    result.update(suite="static", case=case, unit="static", target=target, spills=spills)
    result.update(registers=registers, shared_bytes=shared_bytes)
    return result


def percentiles(samples: Sequence[float]) -> tuple[float, float]:
    """The 20th and the 80th."""
    if len(samples) == 1:
        return samples[0], samples[0]
    p20, _, _, p80 = statistics.quantiles(samples, n=5, method="inclusive")
    return p20, p80
