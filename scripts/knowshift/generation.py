"""The generation engine that probing and evaluation share.

Exactness is by construction. Which random number a token gets depends on its row's key and its step alone. Every forward
pass reads `rows` tokens, empty ones included: the next ones of samples, and as many tokens of waiting prompts as there is
room for. A token's numbers depend on the tokens before it alone, and on how many columns the cache has, which follows from
the prompt. So neither order, nor other prompts, nor where a prompt is cut, nor interruption can change an outcome. On a CPU
every thread runs passes of its own: the number of threads changes nothing either.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import takewhile
from operator import eq

import numpy as np
import torch
from transformers import PreTrainedModel

from knowshift.decoding import Decoding, Prompt, Read
from knowshift.errors import KnowshiftError
from knowshift.linears import InBlocks, pack_linears
from knowshift.randomness import counter_uniform
from knowshift.sampling import Sampler
from knowshift.slots import ATTENTION, Slots, Token

CACHE_BUCKET = 32  # prompts whose lengths round up to one multiple of this are answered together
VECTOR = 16  # the cache has a multiple of this many columns
TRAIL = 16  # prompts before that are looked at for a common beginning


class Engine:
    """Completes prompts with a causal language model.

    Args:
        model: in evaluation mode. The engine takes it over: its attention is replaced, and on a CPU its linear layers are
            packed, in place.
        rows: tokens of a forward pass, and samples under way at once; changes low bits.
        threads: on a CPU, how many passes run side by side, each on one thread; changes no result. None: all cores.

    Raises:
        KnowshiftError: the model computes attention in a way that cannot be replaced.
    """

    def __init__(self, model: PreTrainedModel, rows: int = 64, threads: int | None = None) -> None:
        if not model.is_backend_compatible():
            raise KnowshiftError(f"engine: torch cannot run {type(model).__name__}; set engine: vllm")
        model.set_attn_implementation(ATTENTION)
        self.model, self.rows = model, rows
        self.workers = (threads or torch.get_num_threads()) if model.device.type == "cpu" else 1
        pack_linears(model)
        head = model.get_output_embeddings()
        layer = head.layer if isinstance(head, InBlocks) else head
        model.set_output_embeddings(InBlocks(layer, max(1, rows // 2)))

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
        work = _Work(prompts, decoding, on_read, on_done)
        if self.model.device.type != "cpu":
            work.run(self)
            return work.outputs
        before = torch.get_num_threads()
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            running = [pool.submit(work.run, self) for _ in range(self.workers)]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:  # an error or an interruption, unless all is done
                work.stopped = True
        torch.set_num_threads(before)  # part of it holds for the whole process
        for thread in running:
            thread.result()
        return work.outputs


class _Work:
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

    @torch.inference_mode()
    def run(self, engine: Engine) -> None:
        """What one thread does."""
        for columns in sorted(self.waiting):
            _Lane(self, Slots(engine.model, engine.rows, columns), self.waiting[columns]).run()

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


@dataclass(eq=False)
class _Row:
    """What goes on in one slot.

    Attributes:
        tokens: of a prompt and what it is forced to, or of a prompt and what a sample has come to.
        read: how many of them the slot holds.
        prompt, sample: which they are of; no sample while a prompt is read, or waits for one to start.
        scores: log-probabilities of forced tokens.
        logits, told: of the first new token; and next tokens: of each sample the first, or of greedy decoding what is likeliest
            after the prompt and after each forced token.
        begun, unstarted: the first new tokens of each sample; samples still to be started from this slot.
    """

    slot: int
    tokens: list[int] = field(default_factory=list)
    read: int = 0
    prompt: int = 0
    sample: int | None = None
    scores: list[float] = field(default_factory=list)
    logits: torch.Tensor | None = None
    told: list[int] = field(default_factory=list)
    begun: list[list[int]] = field(default_factory=list)
    unstarted: deque[int] = field(default_factory=deque)


class _Lane:
    """The passes of one thread over prompts whose caches have equally many columns."""

    def __init__(self, work: _Work, slots: Slots, waiting: deque[int]) -> None:
        self.work, self.slots, self.waiting = work, slots, waiting
        self.sampler = Sampler()
        self.free = deque(_Row(slot) for slot in range(slots.rows))
        self.reading: deque[_Row] = deque()
        self.read: deque[_Row] = deque()  # with samples to start
        self.answering: list[_Row] = []
        self.trail: deque[_Row] = deque(maxlen=TRAIL)  # where prompts were read last

    def run(self) -> None:
        """Until nothing waits and all are finished, or the work is stopped."""
        while not self.work.stopped:
            self._start_samples()
            spans = self._gather()
            if not spans:
                return
            tokens = [Token(row.tokens[column], row.slot, column) for row, columns in spans for column in columns]
            asked = [(row, column) for row, columns in spans for column in columns]
            wanted = [place for place, (row, column) in enumerate(asked) if column >= self._known(row) - 1]
            logits = self.slots.read(tokens, wanted)
            for row, columns in spans:
                row.read = columns.stop
            asked = [asked[place] for place in wanted]
            self._score_forced(asked, logits)
            self._choose(asked, logits)
            self._finish_prompts()

    def _known(self, row: _Row) -> int:
        """How many tokens the row's prompt has."""
        return len(self.work.prompts[row.prompt].ids)

    def _start_samples(self) -> None:
        """Start samples of prompts that have been read: one where its prompt is, others in free slots."""
        for source in list(self.read):
            ids = self.work.prompts[source.prompt].ids
            while source.unstarted and (source.sample is None or self.free):
                sample = source.unstarted.popleft()
                begun = source.begun[sample]
                if not all(self.work.accept(source.prompt, sample, token) for token in begun):
                    continue
                row = source if source.sample is None else self.free.popleft()
                row.tokens, row.read = [*ids, *begun], len(ids) + len(begun) - 1
                row.prompt, row.sample = source.prompt, sample
                if row is not source:
                    self.slots.copy(source.slot, row.slot, row.read)
                self.answering.append(row)
            if not source.unstarted:
                self.read.remove(source)
                if source.sample is None:
                    self.free.append(source)

    def _gather(self) -> list[tuple[_Row, range]]:
        """What the next pass reads: columns of rows. Samples come first, then prompts; the last of them may be cut."""
        rows, spans, room = deque([*self.answering, *self.reading]), [], self.slots.rows
        while room and (rows or self._admit(rows)):
            row = rows.popleft()
            columns = range(row.read, min(row.read + room, len(row.tokens)))
            spans.append((row, columns))
            room -= len(columns)
        return spans

    def _admit(self, rows: deque[_Row]) -> bool:
        """Let a waiting prompt have a slot; of its beginning, what another slot holds is copied."""
        with self.work.lock:
            if not (self.waiting and self.free):
                return False
            index = self.waiting.popleft()
        prompt = self.work.prompts[index]
        shared, source = max(
            ((_common(row.tokens[: row.read], prompt.ids[:-1]), row) for row in self.trail),
            key=lambda found: found[0],
            default=(0, None),
        )
        if source in self.free:
            self.free.remove(row := source)
        else:
            row = self.free.popleft()
            if shared:
                self.slots.copy(source.slot, row.slot, shared)
        row.prompt, row.tokens, row.read = index, [*prompt.ids, *prompt.forced], shared
        row.scores, row.told = [], []
        self.reading.append(row)
        self.trail.append(row)
        rows.append(row)
        return True

    def _score_forced(self, asked: Sequence[tuple[_Row, int]], logits: torch.Tensor) -> None:
        """Take the log-probabilities of forced tokens from the (W, V) logits after some columns of rows."""
        forced = [
            (place, row, row.tokens[column + 1])
            for place, (row, column) in enumerate(asked)
            if row.sample is None and column + 1 < len(row.tokens)
        ]
        if forced:
            places, rows, tokens = zip(*forced, strict=True)
            scores = logits[list(places)].float().log_softmax(-1)
            for row, score in zip(rows, scores[range(len(tokens)), list(tokens)].tolist(), strict=True):
                row.scores.append(score)

    def _choose(self, asked: Sequence[tuple[_Row, int]], logits: torch.Tensor) -> None:
        """Choose what follows some columns of rows, by their (W, V) logits."""
        decoding, prompts = self.work.decoding, self.work.prompts
        draws: list[tuple[int, _Row, int, int]] = []  # place, row, key and step
        for place, (row, column) in enumerate(asked):
            step = column + 1 - self._known(row)
            if row.sample is not None:
                draws.append((place, row, prompts[row.prompt].keys[row.sample], step))
            elif step == 0 or not decoding.temperature:
                row.logits = logits[place] if step == 0 else row.logits
                keys = prompts[row.prompt].keys if decoding.temperature else (0,)
                draws += [(place, row, key, step) for key in keys]
        if not draws:
            return
        places, rows, keys, steps = zip(*draws, strict=True)
        if places != tuple(range(len(logits))):
            logits = logits[list(places)]
        uniforms = counter_uniform(np.array(keys, dtype=np.uint64), np.array(steps))
        for row, token in zip(rows, self.sampler.pick(logits, decoding.temperature, uniforms).tolist(), strict=True):
            if row.sample is None:
                row.told.append(token)
            elif self.work.accept(row.prompt, row.sample, token):
                row.tokens.append(token)
            else:
                self.answering.remove(row)
                row.sample = None
                if not row.unstarted:
                    self.free.append(row)

    def _finish_prompts(self) -> None:
        """Make ready what follows prompts that have been read to their end.

        Greedy answers begin with as many tokens as the forced ones agree with: as long as the likeliest token is the forced
        one, what follows it is known too.
        """
        for row in [row for row in self.reading if row.read == len(row.tokens)]:
            self.reading.remove(row)
            prompt = self.work.prompts[row.prompt]
            if self.work.decoding.temperature:
                row.begun = [[token] for token in row.told]
            else:
                agreed = sum(1 for _ in takewhile(bool, map(eq, row.told, prompt.forced)))
                row.begun = [row.told[: agreed + 1]] * len(prompt.keys)
            row.unstarted = deque(range(len(prompt.keys)))
            self.read.append(row)
            if self.work.on_read:
                with self.work.lock:
                    self.work.on_read(Read(row.prompt, row.logits, row.scores))
            row.logits = None  # it holds those of the whole pass


def _common(tokens: Sequence[int], others: Sequence[int]) -> int:
    """How many first tokens are the same."""
    return next(
        (place for place, (a, b) in enumerate(zip(tokens, others, strict=False)) if a != b),
        min(len(tokens), len(others)),
    )


def _round_up(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple
