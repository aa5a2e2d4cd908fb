"""Using every core without changing a number: many one-thread computations instead of one many-thread computation."""

import contextlib
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import NoReturn, TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


@contextlib.contextmanager
def threads(n: int) -> Generator[None, None, None]:
    """Compute on `n` threads inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(work: Callable[[T], R], items: Sequence[T], device: torch.device) -> Iterator[R]:
    """`work` of each item, in order, on as many one-thread workers as torch may use (one on an accelerator).

    Tensors of the tiny tier are too small to share between threads, and a sum over one thread does not depend on the machine.
    """
    workers = min(torch.get_num_threads(), len(items)) if device.type == "cpu" else 1
    if device.type != "cpu":
        yield from map(work, items)
        return
    with threads(1):
        if workers <= 1:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                yield from pool.map(work, items)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def run_jobs(work: Callable[[T], R], tasks: Sequence[T], jobs: int) -> Iterator[tuple[T, R]]:
    """Do tasks here, or in `jobs` processes that are begun afresh, yielding each with its outcome as it finishes.

    An error of one, or an interruption, costs what is being done elsewhere its time and starts nothing more.
    """
    if jobs <= 1 or len(tasks) <= 1:
        yield from ((t, work(t)) for t in tasks)
        return
    pool = ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn"), end_with_parent)
    try:
        futures = {pool.submit(work, t): t for t in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)  # not as a context manager, whose end would take that back
        raise
    pool.shutdown()


def end_with_parent() -> None:
    """As a process pool's initializer: its workers end when the process that made them does, even if that was killed."""
    if parent := parent_process():

        def wait() -> NoReturn:
            parent.join()
            os._exit(1)

        Thread(target=wait, daemon=True).start()
