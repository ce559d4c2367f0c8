r"""Write a checkpoint or a PEFT adapter that was fine-tuned elsewhere as a model folder in the form of its base.

    python scripts/resolve_tuned.py --base base/ --tuned checkpoint/ --output tuned/
    python scripts/resolve_tuned.py --base base/ --tuned adapter/ --output tuned/
    python scripts/resolve_tuned.py --base base/ --source '{"hub": "org/name", "revision": "<commit>"}' --output tuned/

The tensors get the names that the base's have, an adapter is merged by peft in float32, and what --tuned names is not
changed. diff_weights.py, select_updates.py, export_model.py and evaluate.py read the folder that is written. Rows of
new tokens stay; a vocabulary that shrank or is in another order, and quantised weights, are refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import Field

from cli.command_line import CommandLine, quick_imports, run
from knowshift.configuration.models import AdapterSource, DirectorySource, HubSource, Trusting, TunedSource
from knowshift.runtime.errors import KnowshiftError


class Options(Trusting):
    """Where the fine-tuned model comes from, instead of --tuned."""

    source: TunedSource | None = Field(
        default=None, description="Source of the fine-tuned model: hub and revision, directory, or adapter."
    )
    digest: str | None = Field(
        default=None,
        description="Digest of the files in a local folder, which is noted in the manifest; a new one makes Snakemake "
        "read the model again.",
    )


@contextmanager
def folder_of(source: AdapterSource | DirectorySource | HubSource, beside: Path, trusted: bool) -> Iterator[Path]:
    """Give the folder that a source names; a repository on the hub is fetched to a temporary one below `beside`.

    Raises:
        KnowshiftError: there is no such folder, or it holds something else than the source says.
    """
    from knowshift.models.foreign import is_adapter
    from knowshift.models.sources import named_as_source, resolve

    if isinstance(source, HubSource):
        with (
            TemporaryDirectory(dir=beside, prefix="fetched-") as name,
            named_as_source(source.model_dump(), Path(name)),
        ):
            resolve(source.model_dump(), Path(name), trusted, adapters=True)
            yield Path(name)
        return
    folder = Path(source.directory if isinstance(source, DirectorySource) else source.adapter)
    if not folder.is_dir():
        raise KnowshiftError(f"{folder} is no folder; correct the source of the fine-tuned model")
    if isinstance(source, AdapterSource) and not is_adapter(folder):
        raise KnowshiftError(f"{folder} holds no adapter; if it is a whole model, name it as directory: {folder}")
    yield folder


def main() -> None:
    """Read the command line, and write the model directory."""
    parser = CommandLine(__doc__, Options)
    parser.folder("--base", "Model directory before training.")
    parser.folder("--tuned", "Folder of the fine-tuned model, or of an adapter.", required=False)
    parser.new_folder("--output", "Model directory to write.")
    parser.path(
        "--files",
        "Folder to write with its configuration and tokenizer, which outlives the weights in a pipeline.",
        required=False,
        kind="new folder",
    )
    arguments, options = parser.read()
    if (arguments.tuned is None) == (options.source is None):
        parser.error("give either --tuned or --source")
    with quick_imports():
        from knowshift.models.adapters import write_in_form_of_base
        from knowshift.models.foreign import copy_files, differing_settings
        from knowshift.models.loading import trust_code_of
        from knowshift.runtime.artefacts import whole_directory
        from knowshift.runtime.progress import start_logging

    source = options.source or DirectorySource(directory=str(arguments.tuned))
    local = [] if isinstance(source, HubSource) else [Path(*source.model_dump().values())]
    inputs = [arguments.base, *local]
    noted = source.model_dump() | ({"digest": options.digest} if options.digest else {})
    with (
        whole_directory(arguments.output, {"kind": "model", "source": noted}, inputs) as directory,
        folder_of(source, directory, options.trust_remote_code) as folder,
    ):
        if options.trust_remote_code:
            for one in (arguments.base, folder, directory):
                trust_code_of(one)
        checkpoint = write_in_form_of_base(arguments.base, folder, directory)
    if arguments.files:
        with whole_directory(arguments.files, {"kind": "files of a model", "source": noted}, inputs) as directory:
            copy_files(arguments.output, directory)
    log = start_logging()
    log.info("%s: %d tokens more than %s", arguments.output, checkpoint.new_tokens, arguments.base)
    for setting in differing_settings(arguments.base, arguments.output):
        log.warning("the fine-tuned model computes differently from its base: %s", setting)


if __name__ == "__main__":
    run(main)
