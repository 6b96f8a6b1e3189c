"""The batches of an epoch: the right examples whoever loads them, and a fair share for every training process."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory

from forensic_cli.errors import DataError, TrainingError
from forensic_train.loader import Batch, Examples, Keys, count_batches, loader


class Numbers(Examples):
    """Examples that say what they were asked for, and by which process."""

    in_memory = True

    def batch(self, keys: Keys) -> Batch:
        rows, positions = torch.from_numpy(keys.rows), torch.from_numpy(keys.positions)
        process = torch.full_like(rows, os.getpid())
        return Batch(process, rows, positions, torch.full_like(rows, keys.epoch), keys.elsewhere)


class Loaded(Numbers):
    """The same, as if it were slow."""

    in_memory = False


def keys_of(batches: list[Batch]) -> list[list[tuple[int, int]]]:
    return [list(zip(batch.subject.tolist(), batch.generator.tolist(), strict=True)) for batch in batches]


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 20))
def test_a_single_process_gets_consecutive_parts_of_the_order(order: list[int], size: int) -> None:
    batches = loader(Numbers(), order, size, workers=0)
    keys = list(enumerate(order))
    found = list(batches)
    assert keys_of(found) == [keys[i : i + size] for i in range(0, len(keys), size)]
    assert len(batches) == len(found) == count_batches(len(order), size)
    assert all(batch.size == batch.whole == len(batch.inputs) for batch in found)


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 9))
def test_the_shares_of_a_batch_are_disjoint_complete_and_never_empty(count: int, size: int, world: int) -> None:
    order = list(range(count))[::-1]
    if min(count, size) < world:
        with pytest.raises(TrainingError, match=f"cannot be divided among {world} processes; start fewer"):
            loader(Numbers(), order, size, 0, 0, world)
        return
    shares = [list(loader(Numbers(), order, size, 0, rank, world)) for rank in range(world)]
    assert {len(share) for share in shares} == {count_batches(count, size, world)}
    stops = [*range(size, len(shares[0]) * size, size), count]
    for number, parts in enumerate(zip(*shares, strict=True)):
        expected = list(enumerate(order))[number * size : stops[number]]
        assert [batch.whole for batch in parts] == [len(expected)] * world
        assert keys_of(list(parts)) == [expected[rank::world] for rank in range(world)]
        assert all(0 < batch.size <= batch.whole for batch in parts)


def test_a_last_batch_that_is_too_small_for_all_processes_joins_the_one_before() -> None:
    shares = [list(loader(Numbers(), range(9), 4, 0, rank, 2)) for rank in range(2)]
    assert [[batch.generator.tolist() for batch in share] for share in shares] == [
        [[0, 2], [4, 6, 8]],
        [[1, 3], [5, 7]],
    ]
    assert count_batches(9, 4) == 3
    assert count_batches(9, 4, 2) == 2


@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_gets_its_own_order_and_number(workers: int) -> None:
    dataset = Loaded()
    for epoch in range(3):
        dataset.epoch = epoch
        order = np.random.default_rng(epoch).permutation(20).tolist()
        found = list(loader(dataset, order, 3, workers))
        assert [row for batch in found for row in batch.generator.tolist()] == order
        assert {value for batch in found for value in batch.state.tolist()} == {epoch}


def test_loading_processes_stay_from_epoch_to_epoch() -> None:
    dataset = Loaded()
    epochs = [{int(batch.inputs[0]) for batch in loader(dataset, range(40), 2, 2)} for _ in range(3)]
    assert epochs[0] == epochs[1] == epochs[2]
    assert len(epochs[0]) == 2
    assert os.getpid() not in epochs[0]


def test_an_epoch_that_was_given_up_leaves_nothing_to_the_next_one() -> None:
    dataset = Loaded()
    assert next(iter(loader(dataset, range(40), 2, 2))).generator.tolist() == [0, 1]
    found = list(loader(dataset, range(40, 80), 2, 2))
    assert [row for batch in found for row in batch.generator.tolist()] == list(range(40, 80))


def test_slices_of_an_array_are_not_left_to_other_processes() -> None:
    assert {int(batch.inputs[0]) for batch in loader(Numbers(), range(8), 2, workers=2)} == {os.getpid()}


def test_batches_are_loaded_while_the_training_step_runs() -> None:
    asked: list[int] = []

    class Slow(Loaded):
        def batch(self, keys: Keys) -> Batch:
            asked.append(int(keys.rows[0]))
            return super().batch(keys)

    batches = iter(loader(Slow(), range(50), 1, workers=0))
    next(batches)
    until = time.monotonic() + 20
    while len(asked) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    assert 4 <= len(asked) < 10  # ahead, but not without limit


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_is_the_same_error_wherever_it_is_read(workers: int) -> None:
    class Unreadable(Loaded):
        def batch(self, keys: Keys) -> Batch:
            if 7 in keys.rows:
                raise DataError("7.png: the file is gone; repair or remove it")
            return super().batch(keys)

    with pytest.raises(DataError) as caught:
        list(loader(Unreadable(), range(20), 2, workers))
    assert str(caught.value) == "7.png: the file is gone; repair or remove it"


def test_a_dead_process_is_one_line_where_the_next_batch_is_awaited(tmp_path: Path) -> None:
    class Dies(Loaded):
        def batch(self, keys: Keys) -> Batch:
            if 9 in keys.rows and not (tmp_path / "died").exists():
                (tmp_path / "died").touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().batch(keys)

    dataset = Dies()
    batches = iter(loader(dataset, range(20), 2, 1))
    next(batches)
    until = time.monotonic() + 20
    while not (tmp_path / "died").exists() and time.monotonic() < until:
        time.sleep(0.01)
    time.sleep(0.2)  # the training step goes on, whatever happens to a process that loads
    with pytest.raises(TrainingError) as caught:
        list(batches)
    assert str(caught.value).startswith(
        "a process that loads images ended unexpectedly, perhaps because the memory is full; use fewer --workers, and "
        "continue with --resume (DataLoader worker (pid"
    )
    assert len(str(caught.value).splitlines()) == 1
    assert len(list(loader(dataset, range(20), 2, 1))) == 10  # with new processes


def test_a_programming_error_in_a_loading_process_keeps_its_traceback() -> None:
    class Wrong(Loaded):
        def batch(self, keys: Keys) -> Batch:
            raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        list(loader(Wrong(), range(4), 2, 1))


def test_a_data_loader_pins_every_part_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:  # there is nothing to pin memory for without a GPU
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    batch = Batch(*torch.arange(8).reshape(4, 2), 3)
    copied = pin_memory(batch)
    assert [tensor.tolist() for tensor in pinned] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert isinstance(copied, Batch)
    assert (copied.inputs.tolist(), copied.state.tolist(), copied.whole) == ([0, 1], [6, 7], 5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_for_a_gpu_are_pinned(workers: int) -> None:
    for batch in loader(Loaded(), range(6), 2, workers):
        assert all(part.is_pinned() for part in (batch.inputs, batch.generator, batch.subject, batch.state))
        assert batch.to(torch.device("cuda")).inputs.is_cuda
