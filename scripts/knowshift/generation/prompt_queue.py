"""What the threads of a generation share: prompts that wait, outputs, and whom to tell."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence

from knowshift.generation.interface import Decoding, Prompt, Read

CACHE_BUCKET = 32  # prompts whose lengths round up to one multiple of this are answered together
VECTOR = 16  # the cache has a multiple of this many columns


class Work:
    """What all threads of one call of `Engine.generate` share.

    Prompts wait by the columns that their caches have, in the order of their tokens: those that begin alike stand together.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        on_read: Callable[[Read], None] | None,
        on_done: Callable[[int, int], None] | None,
    ) -> None:
        self.prompts, self.decoding, self.on_read, self.on_done = prompts, decoding, on_read, on_done
        self.outputs: list[list[list[int]]] = [[[] for _ in prompt.keys] for prompt in prompts]
        self.lock, self.stopped = threading.Lock(), False
        self.waiting: dict[int, deque[int]] = defaultdict(deque)
        for index in sorted(range(len(prompts)), key=lambda index: prompts[index].ids):
            prompt = prompts[index]
            room = max(decoding.max_new_tokens - 1, len(prompt.forced))
            columns = _round_up(_round_up(len(prompt.ids), CACHE_BUCKET) + room, VECTOR)
            self.waiting[columns].append(index)

    def accept(self, index: int, sample: int, token: int) -> bool:
        """Take a new token; whether the sample goes on."""
        output = self.outputs[index][sample]
        if token not in self.decoding.end_ids:
            output.append(token)
            if len(output) < self.decoding.max_new_tokens:
                return True
        if self.on_done:
            with self.lock:
                self.on_done(index, sample)
        return False


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
