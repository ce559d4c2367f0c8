r"""Fine-tune a model on the first facts of an order.

    python scripts/finetune.py --model base/ --order order.parquet --prompt resources/prompt.yaml \
        --size 240 --name s1 --output checkpoint/ --steps steps.parquet
    torchrun --nproc-per-node 8 scripts/finetune.py …        the same over several processes, sharded

Weights are trained and saved in float32 (the parameter analysis needs it); `--compute bfloat16` autocasts the
arithmetic. Told to end (SIGTERM), it saves and exits with status 75; started again, it goes on from there, to the same
weights. With `--stops '[0.5]'` the checkpoint also has the model after half of the steps, in stops/0.5/.
"""

import signal

from cli.command_line import CommandLine, quick_imports, run
from knowshift.finetuning.options import SECONDS_BETWEEN_SAVES, TrainingOptions


def main() -> None:
    """Read the command line, train, and write the checkpoint and the tables."""
    parser = CommandLine(__doc__, TrainingOptions)
    parser.folder("--model", "Model directory (the base).")
    parser.file("--order", "Order of training facts (Parquet).")
    parser.file("--replayed", "Order of known facts (Parquet), where --replay is above 0.", required=False, bare=True)
    parser.file("--prompt", "Prompt template (YAML).")
    parser.new_folder("--output", "Checkpoint directory to write.")
    parser.new_file("--steps", "Table of losses to write (Parquet).")
    parser.new_file("--speed", "Table of times to write (Parquet).", required=False)
    parser.training(SECONDS_BETWEEN_SAVES)
    arguments, options = parser.read()
    with quick_imports():
        from cli.processes import join_processes
        from knowshift.finetuning.job import TrainingFiles, claimed, finetune

    files = TrainingFiles(
        model=arguments.model,
        order=arguments.order,
        prompt=arguments.prompt,
        checkpoint=arguments.output,
        steps=arguments.steps,
        speed=arguments.speed,
        events=arguments.steps.parent / "tensorboard" if arguments.tensorboard else None,
        replayed=arguments.replayed,
    )
    with (
        join_processes(arguments.device, arguments.threads) as device,
        claimed(files, options, arguments.code, arguments.stops) as folder,
    ):
        if folder:
            signals: list[int] = []
            signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
            finetune(
                files,
                options,
                device,
                folder,
                told_to_end=lambda: bool(signals),
                save_every=arguments.save_every,
                gradient_checkpointing=bool(arguments.gradient_checkpointing),
                stops=arguments.stops,
            )


if __name__ == "__main__":
    run(main)
