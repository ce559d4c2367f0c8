"""The generation engine that probing and evaluation share.

Exactness is by construction. Which random number a token gets depends on its row's key and its step alone. The shape of
every forward pass follows from the prompt alone: prompts are padded to a bucket of their length, prompt passes always
have `prompt_rows` rows and decoding passes `rows` rows, empty ones included. A row's numbers do not depend on what its
neighbours hold, so neither order, nor other prompts, nor interruption can change an outcome. On a CPU every thread runs
passes of its own: the number of threads changes nothing either.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import takewhile
from operator import eq

import numpy as np
import torch
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from knowshift.linears import pack_linears
from knowshift.prompt_passes import Prompt, PromptPasses, Read, additive, round_up, shape_of
from knowshift.randomness import counter_uniform
from knowshift.sampling import Sampler
from knowshift.slots import ATTENTION, SlotLayer

CACHE_BUCKET = (
    32  # the key-value cache holds a multiple of this many prompt tokens; prompts of one multiple are answered together
)


@dataclass(frozen=True)
class Decoding:
    """How tokens are chosen.

    Attributes:
        max_new_tokens: a row stops after this many tokens, or at an end token, and for no other reason.
        end_ids: end tokens; they are not part of the output.
        temperature: 0 is greedy.
    """

    max_new_tokens: int
    end_ids: frozenset[int]
    temperature: float = 0.0


class _Slots:
    """The rows of the decoding pass for prompts of one cache bucket."""

    def __init__(self, model: PreTrainedModel, rows: int, decoding: Decoding, prompt_length: int) -> None:
        device = model.device
        self.model, self.temperature, self.prompt_length = model, decoding.temperature, prompt_length
        self.sampler = Sampler()
        self.length = round_up(prompt_length + decoding.max_new_tokens - 1, 16)  # whole vectors
        config = model.config.get_text_config()
        self.layers = [SlotLayer(rows, self.length) for _ in range(config.num_hidden_layers)]
        self.cache = Cache(layers=self.layers)
        self.columns = torch.arange(self.length, device=device)
        self.owner: list[tuple[int, int] | None] = [None] * rows  # (prompt, sample) of each row
        self.keys = np.zeros(rows, dtype=np.uint64)
        self.first = np.full(rows, prompt_length)  # where a row's prompt starts in the cache
        self.steps = np.zeros(rows, dtype=np.int64)  # tokens generated so far, less the one now fed
        self.tokens = np.zeros(rows, dtype=np.int64)

    def free(self) -> list[int]:
        return [row for row, owner in enumerate(self.owner) if owner is None]

    def start(self, row: int, read: Read, sample: int, prompt: Prompt, tokens: list[int]) -> None:
        """Give a row a prompt's cache and its first new tokens; all but the last of them are in the cache."""
        steps = len(tokens) - 1
        known = len(prompt.ids) + steps
        for layer, (keys, values) in zip(self.layers, read.layers, strict=True):
            layer.fill(row, keys[:, :known], values[:, :known], self.prompt_length + steps)
        self.owner[row] = (read.index, sample)
        self.keys[row], self.first[row] = prompt.keys[sample], self.prompt_length - len(prompt.ids)
        self.steps[row], self.tokens[row] = steps, tokens[-1]

    def stop(self, row: int) -> None:
        self.owner[row] = None
        self.first[row], self.steps[row], self.tokens[row] = self.prompt_length, 0, 0

    def step(self) -> list[int]:
        """Feed each row its last token; returns the next token of each row."""
        device = self.columns.device
        first, steps = torch.as_tensor(self.first, device=device), torch.as_tensor(self.steps, device=device)
        write = self.prompt_length + steps  # (R,)
        heads = self.layers[0].keys.shape[1]
        rows = torch.arange(len(write) * heads, device=device).view(-1, heads)
        places = (rows * self.length + write[:, None]).flatten()  # (R x H,)
        for layer in self.layers:
            layer.places = places
        seen = (self.columns >= first[:, None]) & (self.columns <= write[:, None])  # (R, L)
        logits = self.model(
            input_ids=torch.as_tensor(self.tokens, device=device)[:, None],
            attention_mask=additive(seen, self.model.dtype)[:, None, None],
            position_ids=(write - first)[:, None],
            cache=self.cache,
            use_cache=True,
        ).logits[:, -1]  # (R, V)
        self.steps += 1
        return self.sampler.pick(logits, self.temperature, counter_uniform(self.keys, self.steps)).tolist()


class Engine:
    """Completes prompts with a causal language model.

    Args:
        model: in evaluation mode. On a CPU the engine takes it over: its linear layers are packed, in place.
        rows: rows of a decoding pass; changes low bits.
        prompt_rows: rows of a prompt pass; changes low bits.
        threads: on a CPU, how many passes run side by side, each on one thread; changes no result. None: all cores.
    """

    def __init__(
        self, model: PreTrainedModel, rows: int = 64, prompt_rows: int = 4, threads: int | None = None
    ) -> None:
        self.model, self.rows, self.prompt_rows = model, rows, prompt_rows
        self.workers = (threads or torch.get_num_threads()) if model.device.type == "cpu" else 1
        model.set_attn_implementation(ATTENTION)
        pack_linears(model)

    def generate(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        on_read: Callable[[Read], None] | None = None,
        on_done: Callable[[int, int], None] | None = None,
        first: int | None = None,
    ) -> list[list[list[int]]]:
        """Complete every prompt, once per sample.

        Args:
            prompts: N prompts.
            decoding: how tokens are chosen and when a row stops.
            on_read: called once per prompt, when it has been read.
            on_done: called with (prompt, sample) whenever a row is finished.
            first: how many of the highest first-token logits `on_read` needs, None for all; this engine gives all.

        Returns:
            Token ids of new tokens, without the end token, indexed [prompt][sample].
        """
        work = _Work(self, prompts, decoding, on_read, on_done)
        if self.model.device.type != "cpu":
            work.run()
            return work.outputs
        before = torch.get_num_threads()
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            running = [pool.submit(work.run) for _ in range(self.workers)]
        torch.set_num_threads(before)  # part of it holds for the whole process
        for thread in running:
            thread.result()
        return work.outputs


class _Work:
    """One call of `Engine.generate`, shared by its threads."""

    def __init__(
        self,
        engine: Engine,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        on_read: Callable[[Read], None] | None,
        on_done: Callable[[int, int], None] | None,
    ) -> None:
        self.engine, self.prompts, self.decoding, self.on_done = engine, prompts, decoding, on_done
        self.outputs: list[list[list[int]]] = [[[] for _ in prompt.keys] for prompt in prompts]
        self.lock = threading.Lock()
        self.passes = PromptPasses(engine.model, engine.prompt_rows, self.lock, on_read)
        alike: dict[tuple, list[int]] = defaultdict(list)
        for index, prompt in enumerate(prompts):
            alike[round_up(len(prompt.ids), CACHE_BUCKET), shape_of(prompt)].append(index)
        self.waiting: dict[int, deque[list[int]]] = defaultdict(deque)  # blocks of prompts, by cache bucket
        for (bucket, _), members in sorted(alike.items()):
            for start in range(0, len(members), engine.prompt_rows):
                self.waiting[bucket].append(members[start : start + engine.prompt_rows])

    @torch.inference_mode()
    def run(self) -> None:
        """What one thread does: for each cache bucket, keep the rows filled until nothing waits and all are finished."""
        for bucket, waiting in self.waiting.items():
            slots = _Slots(self.engine.model, self.engine.rows, self.decoding, bucket)
            read: deque[Read] = deque()
            while True:
                self._fill(slots, read, waiting)
                if len(slots.free()) == self.engine.rows:
                    break
                tokens = slots.step()
                for row, owner in enumerate(slots.owner):
                    if owner is not None:
                        slots.tokens[row] = tokens[row]
                        if not self._accept(*owner, tokens[row]):
                            slots.stop(row)

    def _fill(self, slots: _Slots, read: deque[Read], waiting: deque[list[int]]) -> None:
        """Start samples in the free rows, reading prompts as needed."""
        free = deque(slots.free())
        while free:
            if not read:
                with self.lock:
                    if not waiting:
                        return
                    block = waiting.popleft()
                read += self.passes.read(self.prompts, block)
            item = read[0]
            prompt = self.prompts[item.index]
            begun = self._begin(item, prompt)
            while free and item.samples:
                sample = item.samples.popleft()
                if all(self._accept(item.index, sample, token) for token in begun[sample]):
                    slots.start(free.popleft(), item, sample, prompt, begun[sample])
            if not item.samples:
                read.popleft()

    def _begin(self, read: Read, prompt: Prompt) -> list[list[int]]:
        """The first new tokens of each sample: one, or of greedy decoding as many as the prompt's own pass tells.

        As long as the likeliest token is the forced one, the pass has read what follows it.
        """
        if self.decoding.temperature:
            keys = np.array(prompt.keys, dtype=np.uint64)
            repeated = read.logits.expand(len(keys), -1)
            picked = Sampler().pick(repeated, self.decoding.temperature, counter_uniform(keys, 0))
            return [[token] for token in picked.tolist()]
        agreed = sum(1 for _ in takewhile(bool, map(eq, read.likeliest, prompt.forced)))
        return [read.likeliest[: agreed + 1]] * len(prompt.keys)

    def _accept(self, index: int, sample: int, token: int) -> bool:
        """Take a new token; whether the row goes on."""
        output = self.outputs[index][sample]
        if token not in self.decoding.end_ids:
            output.append(token)
            if len(output) < self.decoding.max_new_tokens:
                return True
        if self.on_done:
            with self.lock:
                self.on_done(index, sample)
        return False
