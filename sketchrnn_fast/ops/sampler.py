"""The sampler: whole batches of sketches from a decoder, on one of several engines.

It is no op of PyTorch's, since what it makes is ragged, streamed and may be cancelled, but its
engines are chosen as the ops' backends are. An engine is made from a decoder's weights, which it
packs once, and then draws any number of batches.

The stroke that is drawn at step t is a pure function of the weights, the sketch's z, prefix and
seed, and the settings: whatever the batch, its order, the number of threads or the engine, up to
the rounding of the decoder's arithmetic (`reference.sampler` has the equations of the draw).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.ops import backends
from sketchrnn_fast.ops.decoder_weights import STROKE_SIZE, DecoderWeights, check_shapes
from sketchrnn_fast.ops.sampler_checks import (
    MOST_INT32,
    MOST_INT64,
    check_device,
    check_prefixes,
    check_seeds,
    check_storage,
    check_temperature,
    check_whole,
    check_z,
    in_float32,
    threads_or_torchs,
)
from sketchrnn_fast.reference.sampler import Temperature

OP = "sampler"

# Steps between two looks at whether the caller has cancelled, or pressed Control-C.
STEPS_AT_A_TIME = 64


class Drawings(NamedTuple):
    """Sketches in model units.

    Attributes:
        points: float32 [count, limit, 3], rows (dx, dy, pen) with pen 1 where it is lifted after
            the point; zeros past a sketch's length.
        lengths: int64 [count], points of each sketch, its prefix included.
        ended: bool [count], whether the sketch drew its end state; False where the limit (or who
            cancelled) stopped it.
    """

    points: NDArray[np.float32]
    lengths: NDArray[np.int64]
    ended: NDArray[np.bool_]

    def sketches(self) -> list[NDArray[np.float32]]:
        """Each sketch as a stroke-3 view [N, 3]."""
        return [points[:length] for points, length in zip(self.points, self.lengths, strict=True)]


class Point(NamedTuple):
    """One point as it is drawn, in model units."""

    sketch: int
    index: int  # type: ignore[assignment]  # a tuple has a method of that name
    dx: float
    dy: float
    pen: int  # 0 down, 1 lifted after this point


class Request(NamedTuple):
    """What an engine is to draw; tensors are checked, contiguous, and on the weights' device.

    Attributes:
        seeds: int64 [count].
        z: float32 [count, Z], or None for an unconditional decoder.
        prefix_points: float32 [P, 3], all prefixes laid end to end.
        prefix_offsets: int64 [count + 1]; sketch i has the rows from [i] to [i + 1].
        limit: the most points of a sketch, its prefix included; no prefix is longer.
        points: float32 [count, limit, 3], filled by the run; holds the prefixes already.
        lengths: int64 [count], filled by the run as it draws; holds the prefixes' already.
        ended: bool [count], filled by the run; false already.
        batch: the most sketches side by side; as many as the engine likes if None.
        threads: how many to use.
    """

    seeds: Tensor
    z: Tensor | None
    prefix_points: Tensor
    prefix_offsets: Tensor
    limit: int
    temperature: Temperature
    points: Tensor
    lengths: Tensor
    ended: Tensor
    batch: int | None
    threads: int


class Run(Protocol):
    """A batch of sketches being drawn."""

    def advance(self, steps: int | None) -> bool:
        """Take that many steps, fewer if all is drawn first; gives whether anything is left.

        Args:
            steps: None for as many as it takes, only to engines whose steps_at_a_time is None.

        Raises:
            UserError: the decoder's parameters are not finite.
        """
        ...


class Engine(Protocol):
    """What a backend makes of a decoder's weights.

    Attributes:
        steps_at_a_time: how many steps a run takes at once where nobody asks for fewer; None for
            all of them.
    """

    steps_at_a_time: int | None

    def begin(self, request: Request) -> Run:
        """Prepare to draw."""
        ...

    def parameters(self, strokes: Tensor, z: Tensor | None, params: Tensor, threads: int) -> None:
        """Fill params [T, B, 6K+3] from the given strokes [T, B, 5], whatever they are."""
        ...


def register(backend: str, factory: Callable[[DecoderWeights, str], Engine]) -> None:
    """Make an engine known under its backend's name: a function of the weights and the storage."""
    backends.register(OP, backend, factory)


class Sampler:
    """A decoder, packed for drawing.

    Args:
        decoder: its weights, of any floating-point dtype.
        storage: what the packed matrices are rounded to, `float32`, `bfloat16` or, by the cuda
            backend alone, `float16`; sums are float32.
        backend: the engine; as an op's backend is chosen, unless given.
        device: where to draw; the weights' own unless given.

    Raises:
        UserError: a weight has a wrong shape or a value that is not finite, or the storage is
            unknown; the message names it.
        BackendError: the backend has no sampler or cannot run here, or the device is unknown or
            cannot be used here.
    """

    def __init__(
        self,
        decoder: DecoderWeights,
        *,
        storage: str = "float32",
        backend: str | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        check_storage(storage)
        check_shapes(decoder)
        self.device = check_device(decoder.head[0].device if device is None else device)

        def place(_: str, weight: Tensor) -> Tensor:
            return weight.detach().to(self.device, torch.float32).contiguous()

        self.decoder = decoder.map(place)
        for name, weight in self.decoder.named().items():
            if not bool(torch.isfinite(weight).all()):
                raise UserError(f"the decoder's {name} has values that are not finite")
        self.storage = storage
        self.backend = _choose_backend(backend, self.device)
        if storage == "float16" and self.backend != "cuda":
            raise UserError(
                f"storage is float16, which only the cuda backend has; the {self.backend} backend "
                "takes float32 and bfloat16"
            )
        factory = backends.implementation(OP, self.backend)
        self.engine: Engine = factory(self.decoder, storage)

    def draw(
        self,
        seeds: Tensor | NDArray[np.int64],
        *,
        z: Tensor | None = None,
        prefixes: Sequence[ArrayLike] | None = None,
        limit: int,
        temperature: Temperature = Temperature(),
        batch: int | None = None,
        threads: int | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Drawings:
        """Draw one sketch for each seed.

        Args:
            seeds: int64 [count], the key of each sketch.
            z: [count, Z] for a conditional decoder.
            prefixes: stroke-3 [N, 3] in model units for each sketch, what it begins with; an empty
                one for nothing. A sketch that is given its own beginning, z and seed comes out as
                the same sketch.
            limit: the most points of a sketch, its prefix included.
            temperature: 0 is greedy; see `Temperature`.
            batch: the most sketches side by side, for memory's sake; it does not change the
                drawings.
            threads: torch's number unless given. It does not change the drawings.
            cancelled: asked every few steps; once it is true, what is drawn so far is returned.

        Raises:
            UserError: an argument is not what it must be, before any work; or the parameters that
                the decoder gives are not finite.
        """
        job = self._prepare(seeds, z, prefixes, limit, temperature, batch, threads)
        steps = self.engine.steps_at_a_time if cancelled is None else STEPS_AT_A_TIME
        while job.run.advance(steps):
            if cancelled is not None and cancelled():
                break
        return job.drawings()

    def stream(
        self,
        seeds: Tensor | NDArray[np.int64],
        *,
        z: Tensor | None = None,
        prefixes: Sequence[ArrayLike] | None = None,
        limit: int,
        temperature: Temperature = Temperature(),
        batch: int | None = None,
        threads: int | None = None,
    ) -> Iterator[list[Point]]:
        """`draw`, step by step: the points that a step has drawn, those of prefixes left out.

        The arguments are checked at the call. To stop early, close the iterator or drop it.
        """
        job = self._prepare(seeds, z, prefixes, limit, temperature, batch, threads)
        return job.steps()

    def parameters(
        self, strokes: Tensor, z: Tensor | None = None, *, threads: int | None = None
    ) -> Tensor:
        """The mixture's raw parameters [T, B, 6K+3] with teacher forcing.

        Args:
            strokes: stroke-5 [T, B, 5] in model units, the decoder's inputs: the start token first.
            z: [B, Z] for a conditional decoder.

        Raises:
            UserError: a shape does not fit or a value is not finite.
        """
        if not isinstance(strokes, Tensor):
            raise UserError(
                f"strokes is a {type(strokes).__name__}; it takes a tensor, stroke-5 [T, B, 5]"
            )
        if strokes.dim() != 3 or strokes.shape[2] != STROKE_SIZE or 0 in strokes.shape:
            raise UserError(
                f"strokes has shape {list(strokes.shape)}; it takes stroke-5 [T, B, 5] with at "
                "least one step and one row"
            )
        placed = strokes.detach().to(self.device, torch.float32).contiguous()
        if not bool(torch.isfinite(placed).all()):
            raise UserError("strokes has values that are not finite")
        T, B, _ = placed.shape
        z = check_z(z, B, self.decoder.z_size, self.device)
        params = placed.new_empty(T, B, self.decoder.head[1].shape[0])
        self.engine.parameters(placed, z, params, threads_or_torchs(threads))
        return params

    def _prepare(
        self,
        seeds: Tensor | NDArray[np.int64],
        z: Tensor | None,
        prefixes: Sequence[ArrayLike] | None,
        limit: int,
        temperature: Temperature,
        batch: int | None,
        threads: int | None,
    ) -> _Job:
        keys = check_seeds(seeds).to(self.device)
        count = keys.shape[0]
        limit = check_whole("limit", limit, 1, MOST_INT32)
        if batch is not None:
            batch = check_whole("batch", batch, 1, MOST_INT64)
        check_temperature(temperature)
        z = check_z(z, count, self.decoder.z_size, self.device)
        prefix_points, offsets = check_prefixes(prefixes, count, limit)
        points, lengths, ended = _results(count, limit, self.device)
        given = torch.from_numpy(np.diff(offsets)).to(self.device)
        lengths.copy_(given)
        laid = torch.from_numpy(prefix_points).to(self.device)
        positions = torch.arange(limit, device=self.device)
        if len(laid):
            points[positions < given[:, None]] = laid
        request = Request(
            keys,
            z,
            laid,
            torch.from_numpy(offsets).to(self.device),
            limit,
            in_float32(temperature),
            points,
            lengths,
            ended,
            batch,
            threads_or_torchs(threads),
        )
        return _Job(self.engine.begin(request), points, lengths, ended, np.diff(offsets))


class _Job(NamedTuple):
    """A run with what it fills."""

    run: Run
    points: Tensor
    lengths: Tensor
    ended: Tensor
    given: NDArray[np.int64]  # points of each prefix

    def reached(self) -> NDArray[np.int64]:
        """The length of each sketch so far; an engine may count prefixes as it reads them."""
        lengths: NDArray[np.int64] = np.maximum(self.lengths.cpu().numpy(), self.given)
        return lengths

    def drawings(self) -> Drawings:
        return Drawings(self.points.cpu().numpy(), self.reached(), self.ended.cpu().numpy())

    def steps(self) -> Iterator[list[Point]]:
        seen = self.given
        unfinished = True
        while unfinished:
            unfinished = self.run.advance(1)
            lengths = self.reached()
            if drawn := self._between(seen, lengths):
                yield drawn
            seen = lengths

    def _between(self, seen: NDArray[np.int64], lengths: NDArray[np.int64]) -> list[Point]:
        """The points that have come to sketches which had `seen` and now have `lengths`."""
        is_new = np.flatnonzero(lengths > seen)
        if not len(is_new):
            return []
        first, last = int(seen[is_new].min()), int(lengths[is_new].max())
        window = self.points[torch.from_numpy(is_new).to(self.points.device), first:last]
        return [
            Point(int(sketch), index, dx, dy, int(pen))
            for sketch, rows in zip(is_new, window.tolist(), strict=True)
            for index in range(int(seen[sketch]), int(lengths[sketch]))
            for dx, dy, pen in (rows[index - first],)
        ]


def _choose_backend(name: str | None, device: torch.device) -> str:
    if name is None:
        return backends.select(OP, device)
    with backends.backend(name):
        return backends.select(OP, device)


def _results(count: int, limit: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Points, lengths and ended, all zero."""
    try:
        return (
            torch.zeros(count, limit, 3, device=device),
            torch.zeros(count, dtype=torch.int64, device=device),
            torch.zeros(count, dtype=torch.bool, device=device),
        )
    except RuntimeError:
        raise MemoryError(
            f"{count} sketches of {limit} points take {12 * count * limit} bytes on {device}, "
            "more than there are"
        ) from None
