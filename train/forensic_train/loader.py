"""The batches of an epoch, loaded ahead of the training step, and the share that each of several processes gets.

An example depends on the seed, the epoch and its position in the epoch's order alone, so neither the number of loading
processes nor the number of training processes changes it.
"""

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from forensic_cli.errors import GenforensicError, TrainingError
from forensic_cli.pipeline import ordered_map

Integers: TypeAlias = npt.NDArray[np.int64]
Example: TypeAlias = tuple[Tensor, int, int, int]
"""Input, index of the generator, of the subject, of the state."""

_AHEAD = 4
"""Batches that are ready before the training step asks for them, for each process that loads."""


@dataclass(frozen=True)
class Batch:
    """B training examples."""

    inputs: Tensor
    """uint8 views B x S x S x 3, or float32 features B x F for a technique that works on features."""
    generator: Tensor
    """int64, B: index into the labels."""
    subject: Tensor
    """int64, B: index into the subjects."""
    state: Tensor
    """int64, B: index into the encoder's states."""
    elsewhere: int = 0
    """Examples of the same update that other training processes have."""

    @property
    def size(self) -> int:
        """Number of examples here."""
        return len(self.generator)

    @property
    def whole(self) -> int:
        """Number of examples in the update, those of all training processes together."""
        return self.size + self.elsewhere

    @property
    def share(self) -> float:
        """Part of the update's examples that is here, 0 to 1."""
        return self.size / self.whole

    def parts(self, count: int) -> "list[Batch]":
        """Return the batch in `count` parts of nearly equal size, or fewer if it has fewer examples."""
        tensors = (self.inputs, self.generator, self.subject, self.state)
        chunks = zip(*(torch.tensor_split(part, min(count, self.size)) for part in tensors), strict=True)
        return [Batch(i, g, s, t, self.whole - len(g)) for i, g, s, t in chunks]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device; from pinned memory, the copy runs beside other work."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in pinned memory, which a GPU reads by itself. DataLoader looks for this name."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        parts = (self.inputs, self.generator, self.subject, self.state)
        inputs, generator, subject, state = map(change, parts)
        return Batch(inputs, generator, subject, state, self.elsewhere)


@dataclass(frozen=True)
class Keys:
    """Which examples of an epoch one batch has."""

    epoch: int
    """Counted from 0."""
    positions: Integers
    """B places in the order of the epoch; they separate two draws of the same image."""
    rows: Integers
    """B rows of the dataset."""
    elsewhere: int = 0
    """See Batch."""


class Examples(Dataset[Example]):
    """Labelled examples that are taken in whole batches."""

    in_memory: ClassVar[bool] = False
    """Whether a batch is only a slice of an array, which nothing would make faster."""
    computes: bool = True
    """Whether Python has work with each example; if it is only copied, threads are faster than processes."""
    epoch = 0
    """The epoch whose examples are drawn next; loader() notes it for its batches."""
    _processes: "_Processes | None" = None

    def batch(self, keys: Keys) -> Batch:
        """Return a batch."""
        raise NotImplementedError

    def __getitem__(self, key: tuple[int, int]) -> Example:
        """Return one example of this epoch, by its position in the order and its row."""
        batch = self.batch(Keys(self.epoch, np.array([key[0]]), np.array([key[1]])))
        return batch.inputs[0], int(batch.generator[0]), int(batch.subject[0]), int(batch.state[0])

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_processes": None}  # a loading process gets no loading processes of its own


def loader(
    dataset: Dataset[Example],
    order: npt.ArrayLike,
    batch_size: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
    start: int = 0,
) -> "Batches":
    """Return the batches of the dataset's epoch in the given order of rows, from number `start` on.

    The last one may be smaller.

    `workers`: processes that load images, kept for the next epoch, or threads if images are only copied from a cache;
    0: one thread of this process loads ahead.
    Of each batch, process `rank` of `world` that train together gets every world-th example; a last batch that is too
    small for all of them is part of the one before. Raises TrainingError if any batch is too small.
    """
    assert isinstance(dataset, Examples)
    places = np.asarray(order, np.int64)
    if len(places) and min(batch_size, len(places)) < world:
        raise TrainingError(
            f"{min(batch_size, len(places))} images in a batch cannot be divided among {world} processes; "
            "start fewer processes, or train on larger batches with --batch-size"
        )
    return Batches(dataset, _Shares(dataset.epoch, places, batch_size, rank, world, start), workers)


def count_batches(examples: int, batch_size: int, world: int = 1) -> int:
    """Return the number of batches in an epoch, for one or several training processes."""
    count = math.ceil(examples / batch_size)
    return count - 1 if count > 1 and 0 < examples % batch_size < world else count


@dataclass(frozen=True)
class _Shares:
    """The keys of one process's share of every batch of an epoch."""

    epoch: int
    order: Integers
    batch_size: int
    rank: int
    world: int
    first: int
    """Batches that are passed over."""

    def __len__(self) -> int:
        return max(0, count_batches(len(self.order), self.batch_size, self.world) - self.first)

    def __iter__(self) -> Iterator[Keys]:
        for number in range(self.first, self.first + len(self)):
            start = number * self.batch_size
            stop = start + self.batch_size if number < self.first + len(self) - 1 else len(self.order)
            positions = np.arange(start + self.rank, stop, self.world)
            yield Keys(self.epoch, positions, self.order[positions], stop - start - len(positions))


class Batches:
    """The batches of one epoch. A dataset with loading processes serves one epoch at a time."""

    def __init__(self, dataset: Examples, shares: _Shares, workers: int) -> None:
        self._dataset = dataset
        self._shares = shares
        self._workers = workers

    def __len__(self) -> int:
        return len(self._shares)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches. Raises DataError for an image that cannot be read, TrainingError for a dead process."""
        if self._dataset.in_memory:
            return map(self._take, self._shares)
        if not self._workers or not self._dataset.computes:
            threads = max(1, self._workers)
            return ordered_map(self._take, self._shares, threads, _AHEAD * threads)
        return self._from_processes()

    def _from_processes(self) -> Iterator[Batch]:
        processes = self._dataset._processes
        if processes is None or processes.workers != self._workers:
            processes = self._dataset._processes = _Processes(self._dataset, self._workers)
        try:
            yield from processes.load(self._shares)
        except RuntimeError as error:
            self._dataset._processes = None
            if "DataLoader worker" not in str(error) or "Caught" in str(error):
                raise
            raise TrainingError(
                "a process that loads images ended unexpectedly, perhaps because the memory is full; use fewer "
                f"--workers, and continue with --resume ({str(error).splitlines()[0]})"
            ) from error

    def _take(self, keys: Keys) -> Batch:
        batch = self._dataset.batch(keys)
        return batch.pin_memory() if torch.cuda.is_available() else batch


class _Processes:
    """Processes that load the batches of a dataset, epoch after epoch."""

    def __init__(self, dataset: Examples, workers: int) -> None:
        self.workers = workers
        self._turn = _Turn()
        self._loader: DataLoader[Any] = DataLoader(
            # A copy, because the dataset refers to its processes: without a cycle they end when it is dropped
            _Answers(copy(dataset)),
            batch_sampler=self._turn,  # type: ignore[arg-type]  # Keys in place of lists of keys
            collate_fn=_unchanged,
            num_workers=workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=True,
            prefetch_factor=_AHEAD,
        )

    def load(self, shares: _Shares) -> Iterator[Batch]:
        """Yield the batches of an epoch; those of an epoch that was given up are discarded."""
        self._turn.shares = shares
        with _same_signal_handler():
            answers = iter(self._loader)
        for answer in answers:
            if isinstance(answer, GenforensicError):
                raise answer
            yield answer


class _Turn:
    """What a DataLoader takes for its batch sampler: the shares of whichever epoch is on."""

    shares: _Shares

    def __len__(self) -> int:
        return len(self.shares)

    def __iter__(self) -> Iterator[Keys]:
        return iter(self.shares)


class _Answers(Dataset[Any]):
    """The dataset in a loading process: an error that users can fix is an answer, as PyTorch would add a traceback."""

    def __init__(self, dataset: Examples) -> None:
        self._dataset = dataset

    def __getitems__(self, keys: Keys) -> Batch | GenforensicError:
        """Return a batch, or why there is none."""
        try:
            return self._dataset.batch(keys)
        except GenforensicError as error:
            return error


def _unchanged(answer: Any) -> Any:
    return answer


@contextmanager
def _same_signal_handler() -> Iterator[None]:
    """Keep PyTorch from raising an error wherever the program is when a loading process dies.

    Without its handler the death is noticed where the next batch is awaited, and can be reported in one line.
    """
    number = getattr(signal, "SIGCHLD", None)
    before = signal.getsignal(number) if number else None
    yield
    if number and before is not None and signal.getsignal(number) is not before:
        signal.signal(number, before)
