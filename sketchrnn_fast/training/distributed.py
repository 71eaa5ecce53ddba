"""Several processes, one run: what the ranks that `torchrun` starts say to each other.

Every rank has the whole model and makes some rows of each batch; what they exchange are sums, over
gloo on CPUs and NCCL on GPUs. Only rank 0 writes. A rank that waits for another that has ended, or
that does not answer in time, ends with an error that says so.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from sketchrnn_fast.errors import UserError
from sketchrnn_fast.training.errors import OtherRankError, RankError

TIMEOUT = 600.0  # seconds

# Gradients travel in pieces of about this many bytes, so that no second copy of a model is made.
_BUCKET = 2**24
_MESSAGE = 1000  # bytes of an error that ranks exchange


@dataclass(frozen=True)
class Ranks:
    """The processes of a run; one that is alone unless they are more.

    Every rank must call the methods that exchange something in the same order.

    Attributes:
        rank: the number of this one, from 0.
        size: how many there are.
        device: where tensors are exchanged.
    """

    rank: int = 0
    size: int = 1
    device: str = "cpu"

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """The rows of a batch that this rank makes.

        Raises:
            RankError: the ranks cannot share the batch out evenly.
        """
        if batch_size % self.size:
            raise RankError(
                f"batch_size is {batch_size}, which {self.size} ranks do not divide; each rank "
                "makes as many rows as the others"
            )
        count = batch_size // self.size
        return slice(self.rank * count, (self.rank + 1) * count)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks.

        Args:
            tensors: of one dtype, on one device, contiguous, the same shapes on every rank.
        """
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            with _exchange(self):
                dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def share_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by that of rank 0."""
        if self.size == 1:
            return
        for tensor in tensors:
            with _exchange(self):
                dist.broadcast(tensor, 0)

    def largest(self, value: int) -> int:
        """The largest of the ranks' values."""
        return value if self.size == 1 else int(self._table([value]).max())

    def wait(self) -> None:
        """Go on when every rank is here."""
        self.largest(0)

    def check_same(self, name: str, value: float) -> None:
        """Refuse ranks that differ in a figure which they must have in common.

        Raises:
            RankError: they differ; it says in what.
        """
        if self.size == 1:
            return
        values = self._table([value])[:, 0].tolist()
        for rank, other in enumerate(values):
            if other != values[0]:
                raise RankError(
                    f"the ranks differ: {name} is {values[0]:.12g} on rank 0 and {other:.12g} on "
                    f"rank {rank}; all must have the same data, log root and options"
                )

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that may be refused on any rank: if it is on one, all end.

        Raises:
            OtherRankError: in the place of an error of this rank that a lower one reports too, or
                where only others have one.
        """
        own: Exception | None = None
        try:
            yield
        except (UserError, OSError, MemoryError) as error:
            own = error
        told = self._messages("" if own is None else str(own) or type(own).__name__)
        if own is not None and told.index(told[self.rank]) == self.rank:
            raise own
        for rank, message in enumerate(told):
            if message:
                raise OtherRankError(f"rank {rank} of {self.size}: {message}") from own

    def _table(self, values: Sequence[float]) -> Tensor:
        """The values of every rank, float64 [size, len(values)] on the CPU."""
        table = torch.zeros(self.size, len(values), dtype=torch.float64, device=self.device)
        table[self.rank] = torch.tensor(values, dtype=torch.float64)
        self.sum_([table])
        return table.cpu()

    def _messages(self, own: str) -> list[str]:
        """A text of every rank, cut to its beginning."""
        content = own.encode()[:_MESSAGE]
        table = torch.zeros(self.size, _MESSAGE, dtype=torch.uint8, device=self.device)
        table[self.rank, : len(content)] = torch.tensor(list(content), dtype=torch.uint8)
        self.sum_([table])
        return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in table.tolist()]


ALONE = Ranks()


@contextmanager
def joined(device: str, timeout: float = TIMEOUT) -> Iterator[Ranks]:
    """The ranks of this run, from the environment that `torchrun` sets; one without it.

    Args:
        device: a torch device; `cuda` is the GPU of the rank's local number.
        timeout: seconds that a rank waits for the others before it gives up.

    Raises:
        RankError: the environment is not what `torchrun` sets, or the ranks do not find each other.
    """
    rank, size, local = (_number(name) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if size is None or size == 1:
        yield Ranks(device=device)
        return
    if rank is None or not 0 <= rank < size:
        raise RankError(f"WORLD_SIZE is {size} and RANK {rank}; torchrun sets both, RANK from 0 on")
    if device == "cuda":
        device = f"cuda:{local or 0}"
        torch.cuda.set_device(device)
    ranks = Ranks(rank, size, device)
    # This module keeps the group that it finds when it is first imported, as torch's optimisers do
    # in the end; a group that is kept keeps its threads, which may abort the process as it exits.
    importlib.import_module("torch.distributed.nn.functional")
    with _exchange(ranks):
        dist.init_process_group(
            "nccl" if device.startswith("cuda") else "gloo",
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=timeout),
        )
    try:
        yield ranks
        ranks.wait()  # none leaves while another still talks to it
    finally:
        dist.destroy_process_group()


def is_first_rank() -> bool:
    """Whether this process is to write and show what a run does: rank 0, or without ranks."""
    return _number("RANK") in (None, 0)


def _number(name: str) -> int | None:
    text = os.environ.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise RankError(f"{name} is {text!r}; torchrun sets it to a whole number") from None


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, in groups of about as many bytes as travel at once."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel() * tensor.element_size()
        if size >= _BUCKET:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket


@contextmanager
def _exchange(ranks: Ranks) -> Iterator[None]:
    """Errors of the transport, told as what they mean."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].split("] ", 1)[-1].split(". ")[0].rstrip(".")
        raise RankError(
            f"rank {ranks.rank} of {ranks.size} waited for another, which has ended, does not "
            f"answer in time, or cannot be reached ({reason})"
        ) from None
