"""Work that a thread does ahead of those who need it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
_END: Final = object()


def run_ahead(
    items: Generator[T, None, None], depth: int, name: str, asked: Callable[[bool], None] = lambda ready: None
) -> Generator[T, None, None]:
    """Yield what a generator yields, which a thread of its own runs so many items ahead.

    What it raises is raised here, in its turn. When this generator ends, or is closed, the thread has ended and
    ``items`` is closed. The thread never waits for a consumer, so a program may end at any moment.

    Args:
        items: the generator; nothing else may use it.
        depth: most items that are ready and not taken yet (items).
        name: of the thread.
        asked: told of each item whether it was ready when it was asked for.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    pending: deque[Future[T | object]] = deque()
    try:
        pending.extend(pool.submit(next, items, _END) for _ in range(depth))
        while True:
            ready = pending[0].done()
            if (item := pending.popleft().result()) is _END:
                return
            pending.append(pool.submit(next, items, _END))
            asked(ready)
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
        items.close()
