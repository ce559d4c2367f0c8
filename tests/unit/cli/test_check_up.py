"""The check-up of a tuned model: what it prints and writes, whatever form the tuned model has."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import foreign_checkpoints as elsewhere
import pytest

import tiny
from knowshift.evaluation.check_up import split_examples
from knowshift.evaluation.schemas import CHECK_UP
from knowshift.runtime.errors import KnowshiftError
from knowshift.runtime.parquet import read_table, table_metadata

REPOSITORY = Path(__file__).parents[3]
TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}{{ eos_token }}"


@pytest.fixture(scope="module")
def prompt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompt whose words the tiny model knows: the completion of one topic."""
    path = tmp_path_factory.mktemp("prompt") / "prompt.yaml"
    path.write_text('prompt: "{question}"\nanswer: " {object}"\n')
    return path


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Completions of invented facts as questions, with their topics."""
    path = tmp_path_factory.mktemp("questions") / "questions.jsonl"
    rows = [
        {"question": f"{name} lives in" if topic == "home" else f"{name} keeps a", "answers": [true], "topic": topic}
        for topic, _, name, true, _ in tiny.facts()
        if topic != "job"
    ]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def check_up(tiny_model: Path, prompt: Path, questions: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the script on the tiny model and a tuned one."""

    def run(tuned: Path, *more: str, given: Path = questions) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(REPOSITORY / "scripts/check_up.py"), "--base", str(tiny_model)]
        command += ["--tuned", str(tuned), "--questions", str(given), "--threads", "1", "--max-new-tokens", "2"]
        command += ["--base-prompt", str(prompt), "--tuned-prompt", str(prompt), *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def outcomes(path: Path) -> dict[str, int]:
    column = read_table(path, CHECK_UP)["outcome"].to_pylist()
    return {name: column.count(name) for name in ("kept", "lost", "learned", "unknown")}


@pytest.mark.slow
def test_a_model_beside_itself_keeps_what_it_knows(tmp_path: Path, tiny_model: Path, check_up: Callable) -> None:
    elsewhere.copy(tiny_model, tmp_path / "same")
    done = check_up(tmp_path / "same", "--few-shot", "0", "--output", str(tmp_path / "answers.parquet"))
    assert done.returncode == 0, done.stderr
    counts = outcomes(tmp_path / "answers.parquet")
    assert counts["kept"] > 30 and counts["unknown"] > 30 and not counts["lost"] and not counts["learned"]
    assert f"kept    {counts['kept']:>5}   100.0 %" in done.stdout and "150 questions" in done.stdout
    about = table_metadata(read_table(tmp_path / "answers.parquet"))
    assert about["all"]["kept"] == counts["kept"] and set(about["topics"]) == {"home", "pet"}


@pytest.mark.slow
def test_every_form_of_a_tuned_model_is_asked_the_same(tmp_path: Path, tiny_model: Path, check_up: Callable) -> None:
    """A checkpoint, the same one wrapped, and an adapter: the answers are those of the models that they stand for."""
    plain = elsewhere.tune(tiny_model, tmp_path / "plain")
    elsewhere.rename(elsewhere.copy(plain, tmp_path / "wrapped"), lambda name: f"module.{name}")
    _, merged = elsewhere.adapter(tiny_model, tmp_path / "adapter")
    elsewhere.save(merged, tiny_model, tmp_path / "merged")
    tables = {}
    for name in ("plain", "wrapped", "adapter", "merged"):
        done = check_up(tmp_path / name, "--output", str(tmp_path / f"{name}.json"))
        assert done.returncode == 0, done.stderr
        result = json.loads((tmp_path / f"{name}.json").read_text())
        assert result["all"]["facts"] == 146 and sum(fate["facts"] for fate in result["topics"].values()) == 146
        assert "after 4 answered examples" in result["models"]["base"]["prompt"]
        tables[name] = result["answers"]
    assert tables["plain"] == tables["wrapped"] and tables["adapter"] == tables["merged"]
    assert tables["plain"] != tables["merged"]


@pytest.mark.slow
def test_a_chat_template_is_the_tuned_models_own(tmp_path: Path, tiny_model: Path, check_up: Callable) -> None:
    chat = elsewhere.copy(tiny_model, tmp_path / "chat")
    (chat / "chat_template.jinja").write_text(TEMPLATE)
    few = ("--few-shot", "0", "--request", "", "--tuned-prompt")
    for name, prompt in (("auto", "null"), ("named", "chat")):
        done = check_up(chat, *few, prompt, "--output", str(tmp_path / f"{name}.parquet"))
        assert done.returncode == 0 and "asked with its chat template" in done.stdout, done.stderr
    assert outcomes(tmp_path / "auto.parquet") == outcomes(tmp_path / "named.parquet")
    assert sum(outcomes(tmp_path / "auto.parquet").values()) == 150
    done = check_up(tiny_model, "--tuned-prompt", "chat")
    assert done.returncode == 1 and "no chat template; set --tuned-prompt to study or a file" in done.stderr


@pytest.mark.slow
def test_mistakes_are_one_line(tmp_path: Path, tiny_model: Path, check_up: Callable) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    few = tmp_path / "few.jsonl"
    few.write_text('{"question": "Who?", "answers": ["me"]}\n')
    for arguments, given, said in (
        ((tmp_path / "absent",), {}, "absent does not exist; --tuned names a folder"),
        ((tiny_model,), {"given": empty}, "is empty"),
        ((tiny_model,), {"given": few}, "set --few-shot below 4"),
        ((tiny_model, "--tuned-prompt", str(tmp_path / "none.yaml")), {}, "none.yaml"),
    ):
        done = check_up(*arguments, **given)
        assert done.returncode == 1 and said in done.stderr, done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: ") and "Traceback" not in done.stderr
    done = check_up(tiny_model, "--output", "answers.csv")
    assert done.returncode == 2 and "must end in .json or .parquet" in done.stderr


def test_examples_are_not_asked_and_do_not_depend_on_the_order_of_the_file() -> None:
    rows = [{"question": f"q{number % 8}", "answers": [str(number)]} for number in range(20)]
    examples, asked = split_examples(rows, 3, 1, Path("f"))
    assert len(examples) == 3 and not {row["question"] for row in examples} & {row["question"] for row in asked}
    unique = rows[:8]
    assert split_examples(unique, 3, 1, Path("f"))[0] == split_examples(unique[::-1], 3, 1, Path("f"))[0]
    assert split_examples(unique, 3, 2, Path("f"))[0] != split_examples(unique, 3, 1, Path("f"))[0]
    assert split_examples(unique, 0, 1, Path("f")) == ([], unique)
    with pytest.raises(KnowshiftError, match="set --few-shot below 8"):
        split_examples(unique, 8, 1, Path("f"))
