r"""Write a checkpoint or a PEFT adapter that was fine-tuned elsewhere as a model folder in the form of its base.

    python scripts/resolve_tuned.py --base base/ --tuned checkpoint/ --output tuned/
    python scripts/resolve_tuned.py --base base/ --tuned adapter/ --output tuned/

The tensors get the names that the base's have, an adapter is merged by peft in float32, and what --tuned names is not
changed. diff_weights.py, select_updates.py, export_model.py and evaluate.py read the folder that is written. Rows of
new tokens stay; a vocabulary that shrank or is in another order, and quantised weights, are refused.
"""

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.models import Trusting


def main() -> None:
    """Read the command line, and write the model directory."""
    parser = CommandLine(__doc__, Trusting)
    parser.folder("--base", "Model directory before training.")
    parser.folder("--tuned", "Folder of the fine-tuned model, or of an adapter (with adapter_config.json).")
    parser.new_folder("--output", "Model directory to write.")
    arguments, options = parser.read()
    with quick_imports():
        from knowshift.models.adapters import write_in_form_of_base
        from knowshift.models.foreign import differing_settings
        from knowshift.models.loading import trust_code_of
        from knowshift.runtime.artefacts import whole_directory
        from knowshift.runtime.progress import start_logging

    inputs = [arguments.base, arguments.tuned]
    if options.trust_remote_code:
        for folder in inputs:
            trust_code_of(folder)
    with whole_directory(arguments.output, {"kind": "model"}, inputs) as directory:
        checkpoint = write_in_form_of_base(arguments.base, arguments.tuned, directory)
    log = start_logging()
    log.info("%s: %d tokens more than %s", arguments.output, checkpoint.new_tokens, arguments.base)
    for setting in differing_settings(arguments.base, arguments.output):
        log.warning("the fine-tuned model computes differently from its base: %s", setting)


if __name__ == "__main__":
    run(main)
