"""Micro-batching: requests that arrive during a computation are computed together in the next."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

MAX_BATCH = 32  # largest number of items in a batch


class MicroBatcher:
    """A coroutine function of one item that computes all waiting items in one call."""

    def __init__(self, compute: Callable[[Sequence[Any]], Sequence[Any]]) -> None:
        """Create a micro-batcher.

        Args:
            compute: function of at most MAX_BATCH items that returns as many results.
        """
        self.compute, self.waiting, self.task = compute, [], None

    async def __call__(self, item: Any) -> Any:
        """Return the result of an item, or raise the exception of its computation."""
        future = asyncio.get_running_loop().create_future()
        self.waiting.append((item, future))
        if self.task is None:
            self.task = asyncio.create_task(self.work())
        return await future

    async def work(self) -> None:
        """Compute batches until no item is waiting."""
        try:
            while self.waiting:
                batch, self.waiting = self.waiting[:MAX_BATCH], self.waiting[MAX_BATCH:]
                items, futures = zip(*batch, strict=True)
                try:
                    results = await asyncio.to_thread(self.compute, items)
                except Exception as error:
                    results = [error] * len(futures)
                for future, result in zip(futures, results, strict=True):
                    if future.done():  # the client disconnected
                        continue
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self.task = None
