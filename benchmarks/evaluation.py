"""Questions per second of evaluating a fine-tuned model, against lm-evaluation-harness (`hf` backend).

    .venv-bench/bin/python benchmarks/evaluation.py --python .venv/bin/python \
        --model results/smollm2-135m/exports/full-level0-64-s1/top-transformer-0

Both ask the same test questions of the default facts with the same prompt (checked token by token), greedily, in
float32, up to 16 new tokens. Timed are generation alone (models loaded, everything in this process) and whole processes
(`scripts/evaluate.py` and `lm_eval`, from start to written answers), in turns; medians are shown, and the share of
questions that both answer equally. The harness first tries several batch sizes and then uses its best.
"""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from measuring import RESULTS, alone, machine, median, show, timed_process

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import torch  # noqa: E402

from knowshift.evaluation.answering import answer_questions  # noqa: E402
from knowshift.facts.templates import read_prompt_template  # noqa: E402
from knowshift.generation.interface import Decoding  # noqa: E402
from knowshift.generation.torch_engine import Engine  # noqa: E402
from knowshift.models.loading import end_ids, load_model, load_tokenizer  # noqa: E402
from knowshift.models.tokenizing import encode, starts_with_bos  # noqa: E402

HARNESS = Path(__file__).with_name("harness")
QUESTIONS = RESULTS / "questions.jsonl"  # the task in harness/ reads it there
PROMPT = ROOT / "resources/prompt.yaml"
NEW_TOKENS = 16
BATCHES = (16, 32, 64, 128, 256)

Answer = Callable[[], list[str]]


def write_questions(number: int, start: str) -> list[dict]:
    """Real questions, drawn by a fixed seed, with the prompts that the harness is to use.

    Args:
        start: the text of the BOS token where knowshift puts one before a prompt; the harness does not.
    """
    files = sorted((ROOT / "resources/facts/test").glob("*.json"))
    raw = [row for path in files for row in json.loads(path.read_text(encoding="utf-8"))]
    distinct = list({row["question"]: row for row in raw}.values())
    prompt = read_prompt_template(PROMPT)
    rows = [
        {**row, "prompt": start + prompt.ask(row["question"])}
        for row in random.Random(1).sample(distinct, min(number, len(distinct)))
    ]
    QUESTIONS.parent.mkdir(parents=True, exist_ok=True)
    QUESTIONS.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return rows


def first_line(answer: str) -> str:
    """What both are compared by: the harness stops at a newline, knowshift does not."""
    return answer.split("\n")[0].strip()


def ours(model_path: Path, rows: list[dict], arguments: argparse.Namespace) -> Answer:
    """Generation of this repository, with the model loaded."""
    model, tokenizer = load_model(model_path, "float32"), load_tokenizer(model_path)
    questions = pa.table(
        {
            "fact_id": [str(index) for index in range(len(rows))],
            "set": ["test"] * len(rows),
            "question": [row["question"] for row in rows],
            "object": [row["answers"][0] for row in rows],
        }
    )
    decoding, prompt = Decoding(NEW_TOKENS, end_ids(model_path, tokenizer)), read_prompt_template(PROMPT)
    engine = Engine(model, tokens_per_pass=arguments.tokens_per_pass, threads=arguments.threads)
    return lambda: answer_questions(engine, tokenizer, questions, prompt, decoding)["output"].to_pylist()


def harness(model_path: Path, rows: list[dict], arguments: argparse.Namespace) -> Callable[[int], Answer]:
    """Generation of the harness with a batch size, with the model loaded.

    Raises:
        SystemExit: the harness would read other tokens than knowshift does.
    """
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(model_path), dtype="float32", device="cpu", batch_size=64)
    tokenizer = load_tokenizer(model_path)
    expected = encode(tokenizer, [read_prompt_template(PROMPT).ask(row["question"]) for row in rows])
    if expected != [model.tok_encode(row["prompt"]) for row in rows]:
        raise SystemExit("the harness reads other tokens than knowshift; the comparison would mean nothing")
    kwargs = {"until": ["\n"], "max_gen_toks": NEW_TOKENS, "do_sample": False}
    requests = [Instance("generate_until", row, (row["prompt"], dict(kwargs)), index) for index, row in enumerate(rows)]

    def with_batch(size: int) -> Answer:
        def run() -> list[str]:
            model.batch_size_per_gpu = size
            return model.generate_until(requests, disable_tqdm=True)

        return run

    return with_batch


def our_process(arguments: argparse.Namespace, folder: Path) -> Answer:
    """`scripts/evaluate.py` as a process."""
    output = folder / "answers.parquet"
    command = [arguments.python, arguments.evaluate, "--model", arguments.model, "--questions", QUESTIONS]
    command += ["--prompt", PROMPT, "--output", output, "--max-new-tokens", NEW_TOKENS, "--threads", arguments.threads]

    def run() -> list[str]:
        timed_process([str(part) for part in command])
        return pq.read_table(output)["output"].to_pylist()

    return run


def harness_process(arguments: argparse.Namespace, batch: int, folder: Path) -> Answer:
    """`lm_eval` as a process."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu", "--batch_size", batch]
    command += ["--model_args", f"pretrained={arguments.model},dtype=float32", "--include_path", HARNESS]
    command += ["--tasks", "knowshift_questions", "--output_path", folder, "--log_samples"]

    def run() -> list[str]:
        timed_process([str(part) for part in command], OMP_NUM_THREADS=str(arguments.threads))
        newest = max(folder.rglob("samples_*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        samples = [json.loads(line) for line in newest.read_text(encoding="utf-8").splitlines()]
        return [sample["resps"][0][0] for sample in sorted(samples, key=lambda sample: sample["doc_id"])]

    return run


def take_turns(contenders: dict[str, Answer], arguments: argparse.Namespace) -> tuple[dict, dict]:
    """Median seconds and answers of each contender."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    answers: dict[str, list[str]] = {}
    for turn in range(arguments.rounds):
        for name in sorted(contenders, reverse=turn % 2 == 1):
            answers[name] = [first_line(answer) for answer in clocked(contenders[name], name, seconds[name], arguments)]
    return {name: median(values) for name, values in seconds.items()}, answers


def clocked(run: Answer, name: str, seconds: list[float], arguments: argparse.Namespace) -> list[str]:
    """The answers of a call, with its time added to `seconds`."""
    with alone(arguments.lock):
        start = time.perf_counter()
        answers = run()
        seconds.append(time.perf_counter() - start)
    print(f"{name}: {len(answers)} answers in {seconds[-1]:.1f} s", file=sys.stderr, flush=True)
    return answers


def main() -> None:
    """Read the command line, measure, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="directory of a fine-tuned model")
    parser.add_argument("--questions", type=int, default=440)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--tokens-per-pass", type=int, default=64, help="tokens of a pass of knowshift, generation alone"
    )
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="that the harness is tried with")
    parser.add_argument("--evaluate", type=Path, default=ROOT / "scripts/evaluate.py", help="our script")
    parser.add_argument(
        "--python", default=sys.executable, help="that runs our script: of an environment without the peers"
    )
    parser.add_argument("--parts", nargs="+", choices=["generation", "process"], default=["generation", "process"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--lock", type=Path, help="file to lock while something is timed, on a shared machine")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    tokenizer = load_tokenizer(arguments.model)
    rows = write_questions(arguments.questions, tokenizer.bos_token if starts_with_bos(tokenizer) else "")
    with_batch = harness(arguments.model, rows, arguments)
    found: dict[int, list[float]] = {size: [] for size in arguments.batches}
    for size, seconds in found.items():
        clocked(with_batch(size), f"lm-eval, batch {size}", seconds, arguments)
    batch = min(found, key=lambda size: found[size])

    table = []
    with tempfile.TemporaryDirectory() as folder:
        parts = {
            "generation": lambda: {
                "knowshift": ours(arguments.model, rows, arguments),
                "lm-eval": with_batch(batch),
            },
            "process": lambda: {
                "knowshift": our_process(arguments, Path(folder)),
                "lm-eval": harness_process(arguments, batch, Path(folder)),
            },
        }
        for part in arguments.parts:
            seconds, answers = take_turns(parts[part](), arguments)
            equal = sum(a == b for a, b in zip(answers["knowshift"], answers["lm-eval"], strict=True))
            table += [
                {
                    "what": {"generation": "generation alone", "process": "whole process"}[part],
                    "by": name,
                    "seconds": round(seconds[name], 1),
                    "questions/s": round(len(rows) / seconds[name], 1),
                    "of lm-eval": round(seconds["lm-eval"] / seconds[name], 2),
                    "equal answers": f"{equal / len(rows):.1%}",
                }
                for name in seconds
            ]
    about = (
        f"{len(rows)} questions, greedy, {NEW_TOKENS} tokens, float32; medians of {arguments.rounds} rounds in turn; "
    )
    about += (
        f"lm-eval with batches of {batch}; {arguments.threads} threads; {machine('torch', 'transformers', 'lm_eval')}"
    )
    show("evaluation", table, about)


if __name__ == "__main__":
    main()
