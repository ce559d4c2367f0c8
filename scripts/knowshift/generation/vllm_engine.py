"""vLLM as the engine of generation, for machines with CUDA GPUs; the interface is that of `knowshift.generation.torch_engine.Engine`.

vLLM draws tokens its own way, by a seed per sample: completions are others than those of the torch engine, from the same
distribution. Its first-token values are log-probabilities, which differ from logits by one constant per prompt; divergence
and the order of tokens do not see it. Bits depend on what is batched together, so an interrupted job may end in other low
bits than an undisturbed one.
"""

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from knowshift.generation.interface import Decoding, Prompt, Read
from knowshift.runtime.errors import KnowshiftError
from knowshift.weights.model_writer import write_parameters

LONGEST = 2048  # tokens of a prompt with what is generated; vLLM sets memory aside for it
MEMORY = Path("/dev/shm")  # a file system in memory, where there is one


class VllmEngine:
    """Completes prompts with vLLM.

    Args:
        model: a model directory; or a model in memory and the directory of its base, whose configuration it has.
        dtype: type to compute in.
        rows: prompts that are in flight at once.
        devices: GPUs to share the model out over (tensor parallel).

    Raises:
        KnowshiftError: vLLM is not installed.
    """

    def __init__(
        self, model: Path | tuple[PreTrainedModel, Path], dtype: str, rows: int = 256, devices: int = 1
    ) -> None:
        if isinstance(model, tuple):
            parameters = dict(model[0].named_parameters())
            dtypes = {name: parameter.dtype for name, parameter in parameters.items()}
            with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
                write_parameters(Path(folder), model[1], dtypes, parameters.__getitem__)
                self._load(Path(folder), dtype, rows, devices)
        else:
            self._load(model, dtype, rows, devices)

    def _load(self, directory: Path, dtype: str, rows: int, devices: int) -> None:
        try:
            from vllm import LLM
        except ImportError:
            raise KnowshiftError(
                "engine: vllm needs the package vllm in the Python that runs this script; name that Python in the profile"
                " (set-resources: python=…), or set engine: torch"
            ) from None
        self.llm = LLM(
            str(directory), dtype=dtype, max_num_seqs=rows, max_model_len=LONGEST, tensor_parallel_size=devices,
            logprobs_mode="raw_logprobs", max_logprobs=-1, seed=0, disable_log_stats=True,
        )  # fmt: skip

    def generate(
        self,
        prompts: Sequence[Prompt],
        decoding: Decoding,
        on_read: Callable[[Read], None] | None = None,
        on_done: Callable[[int, int], None] | None = None,
        first: int | None = None,
    ) -> list[list[list[int]]]:
        """Complete every prompt, once per sample; see `Engine.generate`."""
        from vllm import SamplingParams

        shared = {"temperature": decoding.temperature, "max_tokens": decoding.max_new_tokens, "ignore_eos": True,
                  "stop_token_ids": sorted(decoding.end_ids), "detokenize": False}  # fmt: skip
        asked = [(index, sample) for index, prompt in enumerate(prompts) for sample in range(len(prompt.keys))]
        wanted = (-1 if first is None else first) if on_read else None
        settings = [
            SamplingParams(seed=prompts[index].keys[sample], logprobs=None if sample else wanted, **shared)
            for index, sample in asked
        ]
        answers = self.llm.generate([_ids(prompts[index].ids) for index, _ in asked], settings, use_tqdm=False)
        outputs: list[list[list[int]]] = [[[] for _ in prompt.keys] for prompt in prompts]
        for (index, sample), answer in zip(asked, answers, strict=True):
            ids = list(answer.outputs[0].token_ids)
            outputs[index][sample] = ids[:-1] if ids and ids[-1] in decoding.end_ids else ids
            if on_done:
                on_done(index, sample)
        if on_read:
            told = self._forced(prompts)
            vocabulary = self.llm.llm_engine.model_config.get_vocab_size()
            for (index, sample), answer in zip(asked, answers, strict=True):
                if sample == 0:
                    found = answer.outputs[0].logprobs[0]
                    logits = torch.full((vocabulary,), -math.inf)
                    logits[list(found)] = torch.tensor([value.logprob for value in found.values()])
                    on_read(Read(index, logits, told[index]))
        return outputs

    def _forced(self, prompts: Sequence[Prompt]) -> list[list[float]]:
        """The log-probabilities of the prompts' forced continuations."""
        from vllm import SamplingParams

        some = [(index, prompt) for index, prompt in enumerate(prompts) if prompt.forced]
        told: list[list[float]] = [[] for _ in prompts]
        read = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        whole = [_ids((*prompt.ids, *prompt.forced)) for _, prompt in some]
        for (index, prompt), answer in zip(some, self.llm.generate(whole, read, use_tqdm=False), strict=True):
            values = answer.prompt_logprobs[len(prompt.ids) :]
            told[index] = [value[token].logprob for value, token in zip(values, prompt.forced, strict=True)]
        return told


def _ids(ids: Sequence[int]) -> dict[str, list[int]]:
    return {"prompt_token_ids": list(ids)}
