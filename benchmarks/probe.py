"""Tokens per second of mastery probing: ten samples of 32 tokens at temperature 0.7, against other ways to draw them.

    python benchmarks/probe.py --dtypes float32

The prompts are real: EntityQuestions subjects in their completion templates (the environment variable
KNOWSHIFT_ENTITYQUESTIONS names the archive), or else the facts of the default experiment. No sample stops early. Every
contender is a process of its own that waits while another is timed; first each is timed on a few prompts with several
batch sizes, then all of them take turns with their best one. Medians of the rounds are shown. The limit is the time of
the model's linear layers alone, with a batch of --rows.

CTranslate2 takes part where its package is installed and the processor has the type, vLLM where --vllm names the Python
of its environment (see vllm_environment.sh).
"""

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from contenders import NEW_TOKENS, SAMPLES
from measuring import alone, cpu_seconds, machine, median, show

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

from knowshift.facts.templates import SUBJECT, read_topic_templates  # noqa: E402
from knowshift.models.loading import load_tokenizer  # noqa: E402
from knowshift.models.tokenizing import encode  # noqa: E402

ARCHIVE = os.environ.get("KNOWSHIFT_ENTITYQUESTIONS")
BATCHES = (40, 80, 160, 320, 480)
NAMES = {
    "engine": "knowshift",
    "generate": "transformers generate",
    "ctranslate2": "CTranslate2",
    "vllm": "vLLM (CPU)",
    "linear_layers": "limit: linear layers alone",
}


def raw_questions() -> dict[str, list[dict]]:
    """Topic to its test questions."""
    if not ARCHIVE:
        files = sorted((ROOT / "resources/facts/test").glob("*.test.json"))
        return {path.name.partition(".")[0]: json.loads(path.read_text(encoding="utf-8")) for path in files}
    with zipfile.ZipFile(ARCHIVE) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".test.json"))
        return {Path(name).name.partition(".")[0]: json.loads(archive.read(name)) for name in names}


def completion_prompts(number: int) -> list[str]:
    """Prompts of all topics in turn, with subjects and templates drawn by a fixed seed."""
    draw = random.Random(1)
    topics = [
        (read_topic_templates(ROOT / f"resources/templates/{topic}.yaml"), rows)
        for topic, rows in raw_questions().items()
    ]
    prompts: list[str] = []
    while len(prompts) < number:
        templates, rows = topics[len(prompts) % len(topics)]
        if subject := templates.subject_of(draw.choice(rows)["question"]):
            prompts.append(draw.choice(templates.completions).replace(SUBJECT, subject))
    return prompts


class Contender:
    """A process that generates when it is asked to, and what it was timed at.

    Attributes:
        name: one of `contenders.CONTENDERS`.
        batch: samples that it generates at a time.
        speeds: tokens per second of each round.
        others: the largest share of the CPUs that other processes took while it was timed.
    """

    def __init__(self, name: str, batch: int, process: subprocess.Popen, log: Path) -> None:
        self.name, self.batch, self.process, self.log = name, batch, process, log
        self.speeds: list[float] = []
        self.others = 0.0

    def ask(self, prompts: int, batch: int, lock: Path | None = None) -> float:
        """Tokens per second of ten samples of each of the first prompts."""
        with alone(lock):
            before = cpu_seconds()
            self.process.stdin.write(json.dumps({"prompts": prompts, "batch": batch}) + "\n")
            self.process.stdin.flush()
            done = self.answer()
            others = cpu_seconds() - before - done["cpu_seconds"]
        self.others = max(0.0, others / done["seconds"] / os.cpu_count())
        speed = done["tokens"] / done["seconds"]
        note = f"{self.name}, batch of {batch}, {done['tokens']} tokens: {speed:.0f} tokens/s, others {self.others:.0%}"
        print(note, file=sys.stderr, flush=True)
        return speed

    def answer(self) -> dict:
        """The next line of the process.

        Raises:
            RuntimeError: it ended.
        """
        if not (line := self.process.stdout.readline()):
            raise RuntimeError(f"{self.name} failed:\n{self.log.read_text()[-2000:]}")
        return json.loads(line)


@contextmanager
def started(
    name: str, dtype: str, batch: int, python: str, prompts: Path, arguments: argparse.Namespace
) -> Iterator[Contender]:
    """A contender that has loaded its model."""
    script = Path(__file__).with_name("contenders.py")
    options = {"model": arguments.model, "dtype": dtype, "prompts": prompts, "threads": arguments.threads}
    command = [python, script, name, *(str(part) for key, value in options.items() for part in (f"--{key}", value))]
    environment = os.environ | {"OMP_NUM_THREADS": str(arguments.threads), "BENCHMARK_BATCH": str(batch)}
    log = prompts.with_name(f"{name}-{dtype}.log")
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        contender = Contender(name, batch, process, log)
        contender.answer()
        yield contender
        process.stdin.close()


def competitors(dtype: str, arguments: argparse.Namespace) -> Iterator[tuple[str, int, str]]:
    """Who takes part, as (name, batch, Python)."""
    yield "linear_layers", arguments.rows, sys.executable
    yield "engine", 0, sys.executable
    yield "generate", 0, sys.executable
    if importlib.util.find_spec("ctranslate2"):
        import ctranslate2

        if dtype in ctranslate2.get_supported_compute_types("cpu"):
            yield "ctranslate2", 0, sys.executable
    if arguments.vllm:
        yield "vllm", arguments.vllm_rows, arguments.vllm


def compare(dtype: str, prompts: Path, arguments: argparse.Namespace) -> list[dict]:
    """The rows of the table for one type."""
    with ExitStack() as stack:
        contenders = [
            stack.enter_context(started(name, dtype, batch, python, prompts, arguments))
            for name, batch, python in competitors(dtype, arguments)
        ]
        for contender in contenders:
            if not contender.batch:
                batches = [batch for batch in arguments.batches if batch <= SAMPLES * arguments.prompts]
                contender.ask(2, min(batches), arguments.lock)  # the first call of a process is slow
                passes = arguments.threads if contender.name == "engine" else 1  # side by side, a batch each
                found = {batch: contender.ask(passes * batch // SAMPLES, batch, arguments.lock) for batch in batches}
                contender.batch = max(found, key=found.__getitem__)
            else:
                contender.ask(4, contender.batch, arguments.lock)
        for turn in range(arguments.rounds):
            for contender in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
                contender.speeds.append(contender.ask(arguments.prompts, contender.batch, arguments.lock))
    speed = {contender.name: median(contender.speeds) for contender in contenders}
    return [
        {
            "type": dtype,
            "by": NAMES[contender.name],
            "batch": contender.batch,
            "tokens/s": round(speed[contender.name]),
            "lowest to highest": f"{min(contender.speeds):.0f} to {max(contender.speeds):.0f}",
            "of generate": round(speed[contender.name] / speed["generate"], 2),
            "of the limit": f"{speed[contender.name] / speed['linear_layers']:.0%}",
        }
        for contender in sorted(contenders, key=lambda contender: list(NAMES).index(contender.name))
    ]


def main() -> None:
    """Read the command line, measure, and show the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("results/smollm2-135m/base"), help="model directory")
    parser.add_argument("--dtypes", nargs="+", help="default: float32, and bfloat16 where the CPU computes in it")
    parser.add_argument("--prompts", type=int, default=48, help="ten samples each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=64, help="batch size of the limit, the linear layers")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES, help="batch sizes that each is tried with")
    parser.add_argument("--vllm", metavar="PYTHON", help="Python of an environment with vLLM")
    parser.add_argument("--vllm-rows", type=int, default=256, help="batch size of vLLM (max_num_seqs)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--lock", type=Path, help="file to lock while something is timed, on a shared machine")
    arguments = parser.parse_args()
    if not (arguments.model / "config.json").is_file():
        raise SystemExit(f"{arguments.model} is no model; make it: snakemake {arguments.model}/manifest.json")

    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    arguments.dtypes = arguments.dtypes or ["float32", *(["bfloat16"] if native else [])]
    texts = completion_prompts(arguments.prompts)
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.json"
        prompts.write_text(json.dumps(encode(load_tokenizer(arguments.model), texts)))
        rows = [row for dtype in arguments.dtypes for row in compare(dtype, prompts, arguments)]
    facts = "EntityQuestions" if ARCHIVE else "the default facts"
    show(
        "probe",
        rows,
        f"{arguments.prompts} prompts of {facts} x {SAMPLES} samples x {NEW_TOKENS} tokens; medians of "
        f"{arguments.rounds} rounds in turn; {arguments.threads} threads; {machine('torch', 'transformers')}",
    )


if __name__ == "__main__":
    main()
