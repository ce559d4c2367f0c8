"""The generation engine that probing and evaluation share.

Exactness is by construction. Which random number a token gets depends on its row's key and its step alone. Every forward
pass reads `rows` tokens, empty ones included: the next ones of samples, and as many tokens of waiting prompts as there is
room for. A token's numbers depend on the tokens before it alone, and on how many columns the cache has, which follows from
the prompt. So neither order, nor other prompts, nor where a prompt is cut, nor interruption can change an outcome. On a CPU
every thread runs passes of its own: the number of threads changes nothing either.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import torch
from transformers import PreTrainedModel

from knowshift.generation.batching import Lane
from knowshift.generation.interface import Decoding, Prompt, Read
from knowshift.generation.kv_cache import ATTENTION, Slots
from knowshift.generation.packed_linears import InBlocks, pack_linears
from knowshift.generation.prompt_queue import Work
from knowshift.runtime.errors import KnowshiftError


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
        work = Work(prompts, decoding, on_read, on_done)
        if self.model.device.type != "cpu":
            self._run(work)
            return work.outputs
        before = torch.get_num_threads()
        with ThreadPoolExecutor(self.workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            running = [pool.submit(self._run, work) for _ in range(self.workers)]
            try:
                wait(running, return_when=FIRST_EXCEPTION)
            finally:  # an error or an interruption, unless all is done
                work.stopped = True
        torch.set_num_threads(before)  # part of it holds for the whole process
        for thread in running:
            thread.result()
        return work.outputs

    @torch.inference_mode()
    def _run(self, work: Work) -> None:
        """What one thread does."""
        for columns in sorted(work.waiting):
            Lane(work, Slots(self.model, self.rows, columns), work.waiting[columns]).run()
