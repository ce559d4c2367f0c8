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
from dataclasses import dataclass, field

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import Cache

from knowshift.linears import pack_linears
from knowshift.randomness import counter_uniform
from knowshift.sampling import Sampler
from knowshift.slots import ATTENTION, SlotLayer

PROMPT_BUCKET = 4  # prompts, and forced continuations, are padded to a multiple of this many tokens
CACHE_BUCKET = 32  # the key-value cache holds a multiple of this many prompt tokens


@dataclass(frozen=True)
class Prompt:
    """A prompt and the streams of random numbers of its samples.

    Attributes:
        ids: token ids, at least one.
        keys: one 64-bit stream key per sample; greedy decoding uses only their number.
        forced: a continuation whose log-probabilities are wanted beside what is generated.
        shared: how many of its first tokens, fewer than all, other prompts share: they are read once for all of them.
    """

    ids: tuple[int, ...]
    keys: tuple[int, ...] = (0,)
    forced: tuple[int, ...] = ()
    shared: int = 0


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


@dataclass
class Read:
    """A prompt that has been read.

    Attributes:
        index: which prompt.
        logits: (V,) of the first new token.
        forced: log-probabilities of the forced continuation, in nats, one per token.
        layers: keys and values per layer, (H, bucket, D) each.
        samples: samples that are still to be started.
    """

    index: int
    logits: torch.Tensor
    forced: list[float]
    layers: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    samples: deque[int] = field(default_factory=deque)


class _Slots:
    """The rows of the decoding pass for prompts of one cache bucket."""

    def __init__(self, model: PreTrainedModel, rows: int, decoding: Decoding, prompt_length: int) -> None:
        device = model.device
        self.model, self.temperature, self.prompt_length = model, decoding.temperature, prompt_length
        self.sampler = Sampler()
        self.length = _round_up(prompt_length + decoding.max_new_tokens - 1, CACHE_BUCKET)
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

    def start(self, row: int, read: Read, sample: int, prompt: Prompt, token: int) -> None:
        """Give a row a prompt's cache and its first new token."""
        for layer, (keys, values) in zip(self.layers, read.layers, strict=True):
            layer.fill(row, keys, values, self.prompt_length)
        self.owner[row] = (read.index, sample)
        self.keys[row], self.first[row] = prompt.keys[sample], self.prompt_length - len(prompt.ids)
        self.steps[row], self.tokens[row] = 0, token

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
            attention_mask=_additive(seen, self.model.dtype)[:, None, None],
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
        self.engine, self.prompts, self.decoding, self.on_read, self.on_done = (
            engine,
            prompts,
            decoding,
            on_read,
            on_done,
        )
        self.outputs: list[list[list[int]]] = [[[] for _ in prompt.keys] for prompt in prompts]
        self.lock = threading.Lock()
        self.starts: dict[tuple[int, ...], list[tuple[torch.Tensor, torch.Tensor]]] = {}  # caches of shared tokens
        groups: dict[tuple[int, int, tuple[int, ...]], list[int]] = defaultdict(list)
        for index, prompt in enumerate(prompts):
            bucket = _round_up(len(prompt.ids) - prompt.shared, PROMPT_BUCKET)
            forced = _round_up(len(prompt.forced), PROMPT_BUCKET)
            groups[bucket, forced, prompt.ids[: prompt.shared]].append(index)
        self.waiting: dict[int, deque[tuple[int, int, tuple[int, ...], list[int]]]] = defaultdict(
            deque
        )  # by cache bucket
        for (bucket, forced, shared), members in sorted(groups.items()):
            for start in range(0, len(members), engine.prompt_rows):
                block = (bucket, forced, shared, members[start : start + engine.prompt_rows])
                self.waiting[_round_up(len(shared) + bucket, CACHE_BUCKET)].append(block)

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

    def _fill(self, slots: _Slots, read: deque[Read], waiting: deque[tuple[int, int, list[int]]]) -> None:
        """Start samples in the free rows, reading prompts as needed."""
        free = deque(slots.free())
        while free:
            if not read:
                with self.lock:
                    if not waiting:
                        return
                    block = waiting.popleft()
                read += self._read(*block)
            item = read[0]
            prompt = self.prompts[item.index]
            keys = np.array(prompt.keys, dtype=np.uint64)
            repeated = item.logits.expand(len(keys), -1)
            firsts = Sampler().pick(repeated, self.decoding.temperature, counter_uniform(keys, 0)).tolist()
            while free and item.samples:
                sample = item.samples.popleft()
                if self._accept(item.index, sample, firsts[sample]):
                    slots.start(free.popleft(), item, sample, prompt, firsts[sample])
            if not item.samples:
                read.popleft()

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

    def _start(self, shared: tuple[int, ...]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Keys and values of tokens that prompts share, (H, T, D) per layer, from a pass of one row."""
        model, length = self.engine.model, len(shared)
        with self.lock:
            if shared not in self.starts:
                cache, column = DynamicCache(config=model.config), torch.arange(length, device=model.device)
                seen = column[:, None] >= column
                model(
                    input_ids=torch.tensor([shared], device=model.device),
                    attention_mask=_additive(seen, model.dtype)[None, None],
                    position_ids=column[None],
                    cache=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                self.starts[shared] = [(layer.keys[0], layer.values[0]) for layer in cache.layers]
        return self.starts[shared]

    def _read(self, bucket: int, forced: int, shared: tuple[int, ...], block: Sequence[int]) -> list[Read]:
        """One prompt pass, after what prompts share: they end at column `bucket`, what they are forced to follows; short
        blocks are filled up."""
        model, rows = self.engine.model, self.engine.prompt_rows
        before = len(shared)
        filled = [self.prompts[index] for index in [*block, *[block[-1]] * (rows - len(block))]]
        starts = torch.tensor([bucket - (len(prompt.ids) - before) for prompt in filled])
        ids = torch.zeros(rows, bucket + forced, dtype=torch.long)
        for row, prompt in enumerate(filled):
            tokens = torch.tensor([*prompt.ids[before:], *prompt.forced])
            ids[row, starts[row] : starts[row] + len(tokens)] = tokens
        column = torch.arange(bucket + forced)
        # Padding attends to itself alone: a row of the mask with no entry would give NaN, which spreads through the cache.
        seen = (column[:, None] >= column) & (column >= starts[:, None])[:, None] | torch.eye(
            len(column), dtype=torch.bool
        )
        cache = DynamicCache(config=model.config)
        if shared:
            seen = torch.cat([torch.ones(rows, len(column), before, dtype=torch.bool), seen], -1)
            for number, (keys, values) in enumerate(self._start(shared)):
                cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), number)
        logits = model(
            input_ids=ids.to(model.device),
            attention_mask=_additive(seen, model.dtype)[:, None].to(model.device),
            position_ids=before + (column - starts[:, None]).clamp(min=0).to(model.device),
            cache=cache,
            use_cache=True,
            logits_to_keep=forced + 1,
        ).logits  # (P, forced + 1, V)
        read = []
        for row, index in enumerate(block):
            wanted = self.prompts[index].forced
            scores = logits[row, : len(wanted)].float().log_softmax(-1)
            told = scores[range(len(wanted)), list(wanted)].tolist() if wanted else []
            # Together again: the shared tokens, then the prompt's own without the padding before them.
            own = [*range(before), *range(before + int(starts[row]), before + bucket)]
            layers = [(layer.keys[row][:, own], layer.values[row][:, own]) for layer in cache.layers]
            read.append(Read(index, logits[row, 0], told, layers, deque(range(len(self.prompts[index].keys)))))
        if self.on_read:
            with self.lock:
                for item in read:
                    self.on_read(item)
        return read


def _additive(seen: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask to add to scores: 0 where seen, else the lowest number."""
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, torch.finfo(dtype).min)


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
