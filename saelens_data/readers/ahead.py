"""Make what is needed next while what came before is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(make: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`make` of each item in order, each made in a thread while the one before it is used.

    Tokenizers, hashing and the GPU leave Python's lock to others, so the two really run at once. Two results are held
    at most. What `make` raises is raised where its result would have come, and ends the series.
    """
    rest = iter(items)
    with ThreadPoolExecutor(max_workers=1) as pool:
        waiting: list[Future[R]] = [pool.submit(make, item) for item in islice(rest, 1)]
        while waiting:
            made = waiting.pop().result()
            waiting = [pool.submit(make, item) for item in islice(rest, 1)]
            yield made
