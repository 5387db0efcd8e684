"""Micro-batching: requests that arrive during a computation are computed together in the next."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fmnist.inference.numpy_predictor import predictor
from fmnist.inference.photo import SHAPE

MAX_BATCH = 32  # largest number of images in a batch


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


def compile_predictor(model: keras.Model) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function of at most MAX_BATCH images (N, 28, 28, 1) that returns probabilities.

    The function is compiled before it is returned.
    """
    predict_one = predictor(model)
    predict_many = tf.function(model, input_signature=[tf.TensorSpec((MAX_BATCH, *SHAPE))])

    def predict(images: np.ndarray) -> np.ndarray:
        if len(images) == 1:
            return predict_one(images[0])[None]
        padded = np.zeros((MAX_BATCH, *SHAPE), np.float32)
        padded[: len(images)] = images
        return predict_many(padded).numpy()[: len(images)]

    for count in (1, MAX_BATCH):
        predict(np.zeros((count, *SHAPE), np.float32))
    return predict
