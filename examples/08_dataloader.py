"""A dataset that all workers of a DataLoader share, and what it costs each of them otherwise.

    python examples/08_dataloader.py

It needs nothing but shmmap, and ends by itself in a minute. With PyTorch installed it uses
torch.utils.data.DataLoader; without it, or with `--loader plain`, a loader of this file that has
workers of its own in the same way.

The dataset is 20,000 samples of 2 to 4 kB, each a dict with a text and a label. It is held in two
ways: in a list, as usual, and in a map. For both ways of starting workers, fork and spawn, the
workers read an epoch, and then their memory is measured. What a worker needs without any dataset
is subtracted: that of workers that make each sample when they are asked for it.

- list, fork: a worker begins with the pages of its parent. But a sample that is read has its count
  of references changed, which lies in the sample, so the page is copied, to be the worker's own.
- list, spawn: a worker begins with a copy of the whole list.
- map: the samples lie in shared memory, where no reader changes them. A worker has one copy of the
  sample that it is reading.

At last a worker is killed with SIGKILL in the middle of an epoch. The DataLoader breaks off, as it
always does then. The map is as it was, and the next epoch gets every sample exactly once.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, cast

import psutil

from shmmap import ShmMap

BATCH = 32
METHODS = ("fork", "spawn")
Sample = dict[str, Any]
Item = tuple[int, int, Sample]  # the number, who has read it, and the sample


def make_sample(number: int) -> Sample:
    """Return a sample, always the same one for a number. A real one is read and decoded."""
    dice = random.Random(number)
    return {"label": dice.randrange(10), "text": dice.randbytes(dice.randrange(1000, 2000)).hex()}


class Made:
    """A dataset that holds nothing. These two methods are all that a DataLoader asks for."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def sample(self, number: int) -> Sample:
        return make_sample(number)

    def __getitem__(self, number: int) -> Item:
        return number, os.getpid(), self.sample(number)


class Listed(Made):
    """A dataset in a list: each worker gets a copy of it, at once or page by page."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.samples = [make_sample(number) for number in range(length)]

    def sample(self, number: int) -> Sample:
        return self.samples[number]


class Mapped(Made):
    """A dataset in a map: a worker that is forked inherits the handle, one that is spawned gets it
    by pickle, which is the map's name."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.m = ShmMap(  # `python -m shmmap size` says so; one process alone writes
            f"dataloader-example-{os.getpid()}", size=4400 * length + 1_000_000, value_size=632,
            shards=8, ephemeral=True,
        )
        for number in range(length):
            self.m[number] = make_sample(number)

    def sample(self, number: int) -> Sample:
        sample: Sample = self.m[number]
        return sample


DATASETS: dict[str, type[Made]] = {"none": Made, "list": Listed, "map": Mapped}


# -- a loader without PyTorch ----------------------------------------------------------------


def serve(dataset: Made, pipe: Connection, parent: int) -> None:
    """Be a worker: answer numbers with samples, until there are None, or the parent is gone."""
    while os.getppid() == parent:
        if pipe.poll(1):
            numbers = pipe.recv()
            if numbers is None:
                return
            pipe.send([dataset[number] for number in numbers])


class PlainLoader:
    """What is used here of a DataLoader: workers that stay, and a new order for each epoch."""

    def __init__(self, dataset: Made, workers: int, method: str) -> None:
        self.length = len(dataset)
        context: Any = get_context(method)
        self.workers: dict[Connection, Any] = {}
        for _ in range(workers):
            ours, theirs = context.Pipe()
            arguments = (dataset, theirs, os.getpid())
            process = context.Process(target=serve, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self.workers[ours] = process

    def __iter__(self) -> Iterator[list[Item]]:
        """Yield batches.

        Raises:
            RuntimeError: a worker has died.
        """
        order = random.sample(range(self.length), self.length)
        batches = iter([order[first:first + BATCH] for first in range(0, self.length, BATCH)])
        asked = set()
        for pipe, numbers in zip(self.workers, batches, strict=False):
            pipe.send(numbers)
            asked.add(pipe)
        while asked:
            for ready in wait(list(asked)):
                pipe = cast(Connection, ready)
                try:
                    batch = pipe.recv()
                except (EOFError, OSError) as error:
                    raise RuntimeError(f"worker {self.workers[pipe].pid} has died") from error
                asked.discard(pipe)
                if numbers := next(batches, []):
                    pipe.send(numbers)
                    asked.add(pipe)
                yield batch

    def close(self) -> None:
        """End the workers."""
        for pipe, process in self.workers.items():
            process.kill()
            process.join()
            pipe.close()


def open_loader(kind: str, dataset: Made, workers: int, method: str) -> Any:
    """Return PyTorch's DataLoader, or the one of this file."""
    if kind == "plain":
        return PlainLoader(dataset, workers, method)
    from torch.utils.data import DataLoader  # type: ignore[import-not-found, unused-ignore]

    return DataLoader(
        dataset,  # type: ignore[arg-type, unused-ignore]  # PyTorch asks for these methods only
        batch_size=BATCH, shuffle=True, num_workers=workers, persistent_workers=True,
        multiprocessing_context=method, collate_fn=list,
    )


# -- what is measured ------------------------------------------------------------------------


def read_epoch(batches: Any, length: int) -> tuple[bool, set[int]]:
    """Go through an epoch; tell whether each sample came exactly once, as it was made, and who
    read any."""
    seen = [0] * length
    is_right, readers = True, set()
    for batch in batches:
        for number, pid, sample in batch:
            seen[number] += 1
            is_right = is_right and sample == make_sample(number)
            readers.add(pid)
    return is_right and seen == [1] * length, readers


def memory_of(readers: set[int]) -> tuple[float, float]:
    """Return the private memory of a reader (USS, on average) and that of all of them and this
    process together (PSS: a page that several have counts once), in MB."""
    reports = [psutil.Process(pid).memory_full_info() for pid in readers]
    ours = psutil.Process().memory_full_info()
    private = sum(report.uss for report in reports) / len(reports)
    return private / 1e6, (sum(report.pss for report in reports) + ours.pss) / 1e6


def kill_a_reader(loader: Any, length: int) -> tuple[int, int, str]:
    """Kill a worker in the middle of an epoch; return which, how many samples had come when the
    loader broke off, and what it says."""
    got, victim = 0, 0
    try:
        for batch in loader:
            got += len(batch)
            if not victim and got > length // 2:
                victim = batch[0][1]
                os.kill(victim, signal.SIGKILL)
    except RuntimeError as error:
        return victim, got, str(error).splitlines()[0]
    raise AssertionError("the loader has not noticed that a worker was killed")


def measure(pipe: Connection, loader_kind: str, kind: str, method: str, length: int,
            workers: int) -> None:
    """Run a row of the table in a process that has nothing else in its memory; send it."""
    dataset = DATASETS[kind](length)
    loader = open_loader(loader_kind, dataset, workers, method)
    is_right, readers = read_epoch(loader, length)
    private, together = memory_of(readers)
    killed = None
    if isinstance(dataset, Mapped):
        killed = kill_a_reader(loader, length)
        again = open_loader(loader_kind, dataset, workers, method)
        is_right = (read_epoch(again, length)[0] and is_right and dataset.m.check() == []
                    and len(dataset.m) == length)
        if loader_kind == "plain":
            again.close()
    if loader_kind == "plain":
        loader.close()
    pipe.send((private, together, is_right and len(readers) == workers, killed))


def run(loader: str, kind: str, method: str, length: int, workers: int) -> Any:
    """Have a fresh process measure a row."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=measure, args=(theirs, loader, kind, method, length, workers))
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        ours.close()
        process.join()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code, 0 if all is as it should be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--loader", choices=("torch", "plain"),
                        default="torch" if find_spec("torch") else "plain")
    options = parser.parse_args(arguments)
    size = sum(len(make_sample(number)["text"]) for number in range(options.samples)) / 1e6
    print(f"{options.samples} samples, {size:.0f} MB of text; {options.workers} workers of the "
          f"{options.loader} loader, after an epoch\n")
    print("dataset  start   MB private to a worker   MB of all processes together", flush=True)
    is_right, stories = True, []
    for method, kind in itertools.product(METHODS, DATASETS):
        private, together, was_right, killed = run(
            options.loader, kind, method, options.samples, options.workers)
        is_right = is_right and was_right
        if kind == "none":
            base = private, together
            continue
        print(f"{kind:8} {method:6} {private - base[0]:23.1f} {together - base[1]:30.1f}",
              flush=True)
        if killed:
            stories.append("{}: killed worker {} after {} samples; the loader said: {}".format(
                method, *killed))
    print("", *stories, sep="\n")
    print("every sample came exactly once in each epoch, after the kill as well; the map is whole"
          if is_right else "NOT every sample came exactly once")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
