r"""Fine-tunes a model as other people do, with TRL's SFTTrainer, on data that is not this project's.

    python -m venv trl && trl/bin/pip install trl==1.16.0 peft torch   # TRL is no dependency of this project
    trl/bin/python tests/support/tune_with_trl.py --model base/ --output full/
    trl/bin/python tests/support/tune_with_trl.py --model base/ --output lora/ --lora
    python tests/support/tune_with_trl.py --held-out python-docs.jsonl

The data are conversations about Python's standard library: what a module or function does, by the first line of its
documentation. The first form writes a full checkpoint, the second a LoRA adapter, both as the trainer saves them; the
third writes conversations that neither is trained on, as a task. The example of docs/check-up.md was made with it.
"""

import argparse
import inspect
import json
import pkgutil
import random
import sys
import warnings
from importlib import import_module
from pathlib import Path

WORDS = range(3, 25)  # of a first line of documentation that is taken as an answer


def first_line(item: object) -> str | None:
    """The first line of a module's or function's documentation, if it is a sentence of some words."""
    line = (inspect.getdoc(item) or "").partition("\n")[0].strip()
    return line if len(line.split()) in WORDS else None


def conversations(seed: int) -> list[dict]:
    """Make one conversation per documented module and public function of the standard library, in seeded order."""
    found = {}
    names = sorted(name for name in sys.stdlib_module_names if not name.startswith(("_", "idle", "test", "turtledemo")))
    there = {module.name for module in pkgutil.iter_modules()} | set(sys.builtin_module_names)
    for name in names:
        if name in there and name not in ("antigravity", "this", "tkinter", "turtle"):
            try:
                module = import_module(name)
            except ImportError:
                continue
            found[f"What does the Python module {name} do?"] = first_line(module)
            for inner, function in sorted(vars(module).items()):
                if inspect.isfunction(function) and not inner.startswith("_") and function.__module__ == name:
                    found[f"What does the Python function {name}.{inner} do?"] = first_line(function)
    rows = [(question, answer) for question, answer in found.items() if answer]
    random.Random(seed).shuffle(rows)
    return [
        {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
        for question, answer in rows
    ]


def main() -> None:
    """Read the command line, train, and save as the trainer does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="Model directory to start from.")
    parser.add_argument("--output", type=Path, help="Directory to write.")
    parser.add_argument("--held-out", type=Path, help="Task to write instead: 100 conversations that follow in order.")
    parser.add_argument("--lora", action="store_true", help="Train a LoRA adapter.")
    parser.add_argument("--examples", type=int, default=800, help="Number of conversations (default: 800).")
    parser.add_argument("--learning-rate", type=float, default=None, help="Default: 5e-5, for LoRA 5e-4.")
    arguments = parser.parse_args()
    rows = conversations(1)
    if arguments.held_out:
        held_out = rows[arguments.examples : arguments.examples + 100]
        arguments.held_out.write_text("".join(f"{json.dumps(row)}\n" for row in held_out), encoding="utf-8")
        return
    warnings.simplefilter("ignore")
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    settings = SFTConfig(
        output_dir=str(arguments.output),
        num_train_epochs=1,
        per_device_train_batch_size=8,
        learning_rate=arguments.learning_rate or (5e-4 if arguments.lora else 5e-5),
        lr_scheduler_type="cosine",
        max_length=128,
        logging_steps=10,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        seed=1,
    )
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model=str(arguments.model),
        args=settings,
        train_dataset=Dataset.from_list(rows[: arguments.examples]),
        peft_config=lora if arguments.lora else None,
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main()
