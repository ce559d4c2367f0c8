"""One contender of probe.py, in a process of its own: libraries keep their own threads and need their own environments.

    python benchmarks/contenders.py generate --model MODEL --dtype float32 --prompts prompts.json

Each line on standard input, `{"batch": B, "prompts": N}`, asks for ten samples of each of the first N prompts, B
samples at a time; the answer is a line `{"tokens": …, "seconds": …, "cpu_seconds": …}`. Nothing is computed between the
two.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

SAMPLES, NEW_TOKENS, TEMPERATURE = 10, 32, 0.7
Run = Callable[[Sequence[list[int]], int], int]  # (prompts, samples at a time) to the number of new tokens

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))


def engine(model_path: Path, dtype: str, threads: int) -> Run:
    """The engine of this repository."""
    import torch

    from knowshift.generation.interface import Decoding, Prompt
    from knowshift.generation.torch_engine import Engine
    from knowshift.models.loading import load_model
    from knowshift.randomness import derive_seed
    from knowshift.runtime.memory import keep_freed_memory

    keep_freed_memory()  # as every script does
    torch.set_num_threads(threads)
    model = load_model(model_path, dtype)

    def run(prompts: Sequence[list[int]], batch: int) -> int:
        keyed = [
            Prompt(tuple(ids), tuple(derive_seed(1, "benchmark", index, sample) for sample in range(SAMPLES)))
            for index, ids in enumerate(prompts)
        ]
        decoding = Decoding(NEW_TOKENS, frozenset(), TEMPERATURE)
        return sum(len(ids) for samples in Engine(model, batch, threads).generate(keyed, decoding) for ids in samples)

    return run


def transformers_generate(model_path: Path, dtype: str, threads: int) -> Run:
    """`model.generate` of transformers, prompts of like length together, without end tokens and without top-k."""
    import torch

    from knowshift.models.loading import load_model

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    model = load_model(model_path, dtype)
    model.generation_config.eos_token_id = None  # no early stop, and no logits processor for a minimum length either

    @torch.inference_mode()
    def run(prompts: Sequence[list[int]], batch: int) -> int:
        ordered, tokens = sorted(prompts, key=len), 0
        size = max(1, batch // SAMPLES)
        for start in range(0, len(ordered), size):
            block = ordered[start : start + size]
            width = max(map(len, block))
            ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in block])
            mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in block])
            output = model.generate(
                ids,
                attention_mask=mask,
                do_sample=True,
                temperature=TEMPERATURE,
                top_k=0,
                num_return_sequences=SAMPLES,
                max_new_tokens=NEW_TOKENS,
                pad_token_id=0,
            )
            tokens += output[:, width:].numel()
        return tokens

    return run


def ctranslate2(model_path: Path, dtype: str, threads: int) -> Run:
    """CTranslate2, from the model converted to its own format."""
    import tempfile

    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    with tempfile.TemporaryDirectory() as folder:
        TransformersConverter(str(model_path)).convert(folder, quantization=dtype, force=True)
        generator = ctranslate2.Generator(folder, device="cpu", compute_type=dtype, intra_threads=threads)

    def run(prompts: Sequence[list[int]], batch: int) -> int:
        texts = [tokenizer.convert_ids_to_tokens(ids) for ids in prompts]
        results = generator.generate_batch(
            [text for text in texts for _ in range(SAMPLES)],
            max_batch_size=batch,
            sampling_topk=0,
            sampling_temperature=TEMPERATURE,
            max_length=NEW_TOKENS,
            min_length=NEW_TOKENS,
            include_prompt_in_result=False,
        )
        return sum(len(ids) for result in results for ids in result.sequences_ids)

    return run


def vllm(model_path: Path, dtype: str, threads: int) -> Run:
    """vLLM for CPUs, in this process. The batch size is set once, by the environment variable BENCHMARK_BATCH."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "4"}
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{threads - 1}"
    from vllm import LLM, SamplingParams

    model = LLM(
        str(model_path),
        dtype=dtype,
        max_model_len=128,
        max_num_seqs=int(os.environ["BENCHMARK_BATCH"]),
    )
    sampling = SamplingParams(
        n=SAMPLES, temperature=TEMPERATURE, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False
    )

    def run(prompts: Sequence[list[int]], batch: int) -> int:
        outputs = model.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
        return sum(len(sample.token_ids) for output in outputs for sample in output.outputs)

    return run


def linear_layers(model_path: Path, dtype: str, threads: int) -> Run:
    """The limit: all linear layers of the model, the output layer included, on random numbers and nothing else."""
    import torch

    from knowshift.models.loading import load_model

    torch.set_num_threads(threads)
    layers = [module for module in load_model(model_path, dtype).modules() if isinstance(module, torch.nn.Linear)]
    inputs: dict[tuple[int, int], torch.Tensor] = {}

    @torch.inference_mode()
    def run(prompts: Sequence[list[int]], batch: int) -> int:
        for layer in layers:
            width = layer.in_features
            if (batch, width) not in inputs:
                inputs[batch, width] = torch.randn(batch, width).to(layer.weight.dtype)
        passes = max(1, min(len(prompts) * SAMPLES, 480) * NEW_TOKENS // batch // 4)
        for _ in range(passes):
            for layer in layers:
                layer(inputs[batch, layer.in_features])
        return passes * batch

    return run


CONTENDERS = {
    "engine": engine,
    "generate": transformers_generate,
    "ctranslate2": ctranslate2,
    "vllm": vllm,
    "linear_layers": linear_layers,
}


def main() -> None:
    """Answer requests on standard input until it ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--dtype", required=True, help="float32 or bfloat16")
    parser.add_argument("--prompts", type=Path, required=True, help="JSON list of prompts, each a list of token ids")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()

    answers = os.fdopen(os.dup(1), "w")  # what libraries print goes to standard error
    os.dup2(2, 1)
    prompts = json.loads(arguments.prompts.read_text())
    run = CONTENDERS[arguments.contender](arguments.model, arguments.dtype, arguments.threads)
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        start, busy = time.perf_counter(), time.process_time()
        tokens = run(prompts[: asked["prompts"]], asked["batch"])
        answer = {
            "tokens": tokens,
            "seconds": time.perf_counter() - start,
            "cpu_seconds": time.process_time() - busy,
        }
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
