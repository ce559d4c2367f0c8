"""The engine vllm, in an environment of its own that benchmarks/vllm_environment.sh makes; skipped where there is none.

It answers and scores as the torch engine does, up to rounding, and samples from the same distribution.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

REPOSITORY = Path(__file__).parents[3]
PYTHON = Path(os.environ.get("KNOWSHIFT_VLLM", REPOSITORY / ".venv-vllm/bin/python"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.vllm,
    pytest.mark.skipif(not PYTHON.exists(), reason="no environment with vLLM; benchmarks/vllm_environment.sh makes it"),
    pytest.mark.timeout(900),
]


def run(script: str, output: Path, *arguments: str | Path, python: Path | str = sys.executable) -> Path:
    command = [python, REPOSITORY / "scripts" / f"{script}.py", *arguments, "--output", output]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return output


def ask(script: str, output: Path, engine: str, *arguments: str | Path) -> Path:
    return run(script, output, *arguments, "--engine", engine, python=PYTHON if engine == "vllm" else sys.executable)


def some_facts(folder: Path) -> tuple[Path, Path]:
    """A table of facts and the templates of their topic."""
    templates = REPOSITORY / "resources/templates/country_capital.yaml"
    build = ["--raw", REPOSITORY / "resources/facts", "--templates", templates, "--domain", "in_domain"]
    return run("build_facts", folder / "facts.parquet", *build), templates


def both(script: str, folder: Path, *arguments: str | Path) -> list[dict[str, np.ndarray]]:
    """The tables that a script writes with either engine, by column."""
    tables = []
    for engine in ("torch", "vllm"):
        ask(script, folder / f"{engine}.parquet", engine, *arguments)
        tables.append(pq.read_table(folder / f"{engine}.parquet").to_pandas())
    return tables


def test_it_answers_as_the_torch_engine(smollm2: Path, tmp_path: Path) -> None:
    rows = json.loads((REPOSITORY / "resources/facts/test/country_capital.test.json").read_text())[:40]
    questions = tmp_path / "questions.jsonl"
    questions.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ours, vllm = both("evaluate", tmp_path, "--model", smollm2, "--questions", questions)
    assert (ours["output"] == vllm["output"]).mean() > 0.9
    np.testing.assert_allclose(ours["gold_logprob"], vllm["gold_logprob"], atol=2e-3)
    for _, one, two in zip(range(40), ours.itertuples(), vllm.itertuples(), strict=True):
        theirs = dict(zip(two.first_tokens, two.first_logits, strict=True))
        mine = zip(one.first_tokens, one.first_logits, strict=True)
        same = [(value, theirs[token]) for token, value in mine if token in theirs]
        assert len(theirs) == 100 and len(same) >= 97
        shift = np.diff(np.array(same), axis=1).ravel()  # logits and log-probabilities differ by a constant
        np.testing.assert_allclose(shift, np.full_like(shift, shift[0]), atol=5e-3)


def test_it_samples_from_the_same_distribution(smollm2: Path, tmp_path: Path) -> None:
    facts, templates = some_facts(tmp_path)
    options = {"split": "test", "facts_limit": 10, "samples": 200, "templates_used": 1}
    options |= {"max_new_tokens": 1, "temperature": 0.7}
    arguments = ["--model", smollm2, "--facts", facts, "--templates", templates, "--spec", json.dumps(options)]
    ours, vllm = both("probe_mastery", tmp_path, *arguments)
    ask("probe_mastery", tmp_path / "again.parquet", "vllm", *arguments)
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "vllm.parquet").read_bytes()
    first, second = (table.groupby(["fact_id", "text"]).size() / 200 for table in (ours, vllm))
    likely = first[first > 0.1].index
    assert len(likely) > 10
    # Four and a half standard errors of the difference of two shares out of 200.
    assert (first[likely] - second.reindex(likely, fill_value=0)).abs().max() < 4.5 * (2 * 0.25 / 200) ** 0.5


def test_it_asks_a_restored_model(smollm2: Path, tmp_path: Path) -> None:
    facts, templates = some_facts(tmp_path)
    probe = {"split": "test", "facts_limit": 20, "samples": 1, "templates_used": 1, "max_new_tokens": 4}
    known = ["--model", smollm2, "--facts", facts, "--templates", templates, "--spec", json.dumps(probe)]
    completions = run("probe_mastery", tmp_path / "completions.parquet", *known)
    mastery = run("grade_mastery", tmp_path / "mastery.parquet", "--facts", facts, "--completions", completions)
    tuned = shutil.copytree(smollm2, tmp_path / "tuned")
    draw = torch.Generator().manual_seed(0)
    before = load_file(smollm2 / "model.safetensors").items()
    moved = {name: value * (1 + 0.1 * torch.randn(value.shape, generator=draw)) for name, value in before}
    save_file(moved, tuned / "model.safetensors", {"format": "pt"})
    (tuned / "manifest.json").unlink()  # of the base
    delta = run("diff_weights", tmp_path / "delta", "--base", smollm2, "--tuned", tuned)
    restore = {"percents": [20, 50], "per_level": {"test": 20}}
    arguments = ["--model", smollm2, "--delta", delta, "--mastery", mastery]
    arguments += ["--prompt", REPOSITORY / "resources/prompt.yaml"]
    arguments += ["--spec", json.dumps(restore)]
    folders = [ask("evaluate_restored", tmp_path / engine, engine, *arguments) for engine in ("torch", "vllm")]
    for share in ("20.parquet", "50.parquet"):  # with vLLM, each in a process of its own
        ours, vllm = (pq.read_table(folder / share).to_pandas() for folder in folders)
        assert len(ours) == 20 and (ours["output"] == vllm["output"]).mean() > 0.9
        np.testing.assert_allclose(ours["gold_logprob"], vllm["gold_logprob"], atol=2e-3)
