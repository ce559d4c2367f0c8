"""Configuration errors are one clear line each."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tiny
from knowshift.configuration import checking, consent, sections
from knowshift.planning.fact_counts import TopicSize
from knowshift.planning.planned_model import ModelSize, PlannedModel

REPOSITORY = Path(__file__).parents[3]
CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))


@pytest.fixture
def raw(tiny_facts: Path, tmp_path: Path) -> dict:
    return copy.deepcopy(tiny.configuration(tiny_facts, tmp_path))


@pytest.mark.parametrize(
    "path", [REPOSITORY / "config.yaml", *(REPOSITORY / "configs").glob("*.yaml")], ids=lambda path: path.name
)
def test_the_configurations_of_the_project_are_valid(path: Path) -> None:
    checking.check(yaml.safe_load(path.read_text()), REPOSITORY)


def test_the_json_schema_is_current() -> None:
    written = (REPOSITORY / "schemas/config.schema.json").read_text()
    assert written == sections.json_schema(), "run: make schema"


def test_every_setting_that_says_what_torch_computes_in_is_listed(raw: dict) -> None:
    raw["restoration"][0] |= {"more_dtypes": ["bfloat16"], "strategy": "sign_agreeing", "sizes": None}
    assert "bfloat16" in checking.check(raw, REPOSITORY).computing_dtypes().values()
    raw["evaluation"]["engine"] = "vllm"
    assert not any(key.startswith("restoration") for key in checking.check(raw, REPOSITORY).computing_dtypes())


def test_a_configuration_may_train_nothing(raw: dict, tiny_model: Path) -> None:
    del raw["finetuning"]
    raw["restoration"], raw["exports"] = [{"percents": [20]}], [{"model": "tiny", "run": "tuned-bot", "percent": 20}]
    with pytest.raises(checking.ConfigurationError, match=r"finetuning is missing: .* models\.NAME\.tuned"):
        checking.check({**raw, "exports": []}, REPOSITORY)
    raw["models"]["tiny"]["tuned"] = {"bot": {"source": {"directory": str(tiny_model)}, "prompt": "study"}}
    settings = checking.check(raw, REPOSITORY)
    assert settings.finetuning is None and settings.narrow_answers() == [] and settings.computing_dtypes()
    assert consent.count_models(settings) == 2
    assert settings.facts_limit("train") == 20 and settings.facts_limit("test") == settings.facts.test_limit
    model = PlannedModel(settings, "tiny", ModelSize(1e6, 4e6, {}), {"home": TopicSize("in_domain", {}, 0, 1, 1, 1)})
    assert [cell.run for cell in model.runs] == ["tuned-bot"] and not model.trained and model.sweeps == 1


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("models.tiny.tuned.bot.source", {"wheel": "x"}, ["models.tiny.tuned.bot.source", "adapter"]),
        ("models.tiny.tuned.bot.source", {"adapter": "."}, ["tuned.bot.source.adapter: . holds no adapter"]),
        ("models.tiny.tuned.bot.source", {"directory": "none"}, ["tuned.bot.source.directory: none is no folder"]),
        ("models.tiny.tuned.bot.prompt", "none.yaml", ["tuned.bot.prompt: neither chat nor study", "none.yaml"]),
        ("models.tiny.tuned.bot.chat", {"date": "today"}, ["models.tiny.tuned.bot.chat.date"]),
        ("models.tiny.tuned", {"a b": {"source": {"directory": "."}}}, ["models.tiny.tuned.a b", "pattern"]),
        ("finetuning.variants", {"tuned": {"method": "full"}}, ["variants.tuned: this name is that of a method"]),
        ("restoration.0.tuned", ["no"], ["restoration.0.tuned: no is not in the tuned models, which are ['bot']"]),
        ("exports.0.run", "tuned-no", ["exports.0.run: models.tiny.tuned has no no, but ['bot']"]),
    ],
)
def test_mistakes_about_models_that_were_tuned_elsewhere(raw: dict, key: str, value: object, said: list[str]) -> None:
    raw["models"]["tiny"]["tuned"] = {"bot": {"source": {"directory": raw["models"]["tiny"]["source"]["directory"]}}}
    change(raw, key, value)
    with pytest.raises(checking.ConfigurationError) as caught:
        checking.check(raw, REPOSITORY)
    assert all(part in str(caught.value) for part in said), str(caught.value)


def test_a_task_is_named_after_its_file_and_must_have_both_halves(raw: dict, tmp_path: Path) -> None:
    path = tmp_path / "tickets.jsonl"
    path.write_text("".join(f'{{"prompt": "ticket {number}", "expected": "a"}}\n' for number in range(30)))
    settings = checking.check({**raw, "tasks": [{"questions": str(path)}]}, REPOSITORY)
    (task,) = settings.tasks
    assert (task.name, task.metric, task.tolerance, task.tokens) == ("tickets", "contains", 0.02, 64)
    path.write_text('{"prompt": "ticket", "expected": "a"}\n')
    with pytest.raises(checking.ConfigurationError, match=r"tasks\.0\.questions: all of its 1 examples fall into"):
        checking.check({**raw, "tasks": [{"questions": str(path), "metric": "loglikelihood"}]}, REPOSITORY)


def change(raw: dict, key: str, value: object) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        raw = raw[int(parent)] if isinstance(raw, list) else raw[parent]
    raw[last] = value


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("finetunning", {}, ["finetunning is no known key", "finetuning"]),
        ("finetuning.learning_rte", 1, ["finetuning.learning_rte is no known key", "learning_rate"]),
        ("restoration.0.percnts", [1], ["restoration.0.percnts is no known key", "percents"]),
        ("finetuning.methods", ["adapters"], ["finetuning", "methods: adapters is neither full nor lora"]),
        ("finetuning.methods", ["Full"], ["finetuning.methods.0", "pattern"]),
        ("finetuning.method_data", {"lora": ["level3"]}, ["method_data.lora: level3 is not among data"]),
        ("finetuning.data_sizes", {"level3": [8]}, ["data_sizes: level3 is not among data"]),
        ("finetuning.data_sizes", {"mixed": [8, 9]}, ["data_sizes.mixed: 9 is not among sizes"]),
        ("finetuning.data_sizes", {"level7": [8]}, ["finetuning.data_sizes.level7", "'level4'"]),
        ("finetuning.data_sizes", {"mixed": []}, ["finetuning.data_sizes.mixed", "at least 1"]),
        ("finetuning.lora.rank", 0, ["finetuning.lora.rank", "greater than 0"]),
        ("finetuning.variants", {"full": {"method": "full"}}, ["variants.full: this name is that of a method already"]),
        ("finetuning.variants", {"slow": {"epochs": 2}}, ["variants.slow.method must be full or lora"]),
        (
            "finetuning.variants",
            {"slow": {"method": "full", "epoch": 2}},
            ["variants.slow: epoch is no known key", "epochs"],
        ),
        (
            "finetuning.variants",
            {"slow": {"method": "full", "epochs": 0}},
            ["variants.slow: epochs: input should be greater"],
        ),
        (
            "finetuning.variants",
            {"fast": {"method": "lora", "learning_rate": 1e-3}},
            ["variants.fast.learning_rate: adapters have their own"],
        ),
        ("finetuning.l2_sp", -1, ["finetuning.l2_sp", "greater than or equal to 0"]),
        ("finetuning.l2_sp", 0.1, ["l2_sp is 0.1, but lora trains adapters"]),
        ("finetuning.variants", {"x": {"method": "lora", "l2_sp": 1}}, ["variants.x: l2_sp is 1.0, but lora"]),
        ("finetuning.replay", 11, ["finetuning.replay", "less than or equal to 10"]),
        ("finetuning.data", ["mixed", "known"], ["finetuning.data.1", "'mixed'", "'known'"]),
        ("models.tiny.bos", "sometimes", ["models.tiny.bos", "'as_tokenizer'", "'sometimes'"]),
        ("models.tiny.attention", "flash", ["models.tiny.attention", "'sdpa'", "'flash'"]),
        ("models.tiny.source", {"gguf": "missing.gguf"}, ["models.tiny.source.gguf", "missing.gguf is no file"]),
        ("models.tiny.source", {"gguf": "a.gguf", "file": "x"}, ["models.tiny.source.file is no known key"]),
        (
            "models.tiny.instruct.chat",
            {"template_args": {"messages": True}},
            ["models.tiny.instruct.chat.template_args", "messages is given to the template already"],
        ),
        (
            "models.tiny.instruct.chat",
            {"template_args": {"a b": True}},
            ["models.tiny.instruct.chat.template_args", "pattern"],
        ),
        ("facts.writings", ["accents", "spelling"], ["facts.writings.1", "'thousands'", "'spelling'"]),
        ("facts.writings", ["accents", "accents"], ["facts.writings", "twice"]),
        ("report_on", ["tiny", "other"], ["report_on: other is not among models"]),
        ("models.tiny.instruct.chat", {"date": "today"}, ["models.tiny.instruct.chat.date", "isoformat"]),
        ("models.tiny.instruct.prompt", "talk", ["models.tiny.instruct.prompt", "'study'", "'talk'"]),
        ("restoration.0.methods", ["dora"], ["restoration.0.methods: dora is not in the grid"]),
        ("finetuning.data", ["level7"], ["finetuning.data.0", "level4", "'mixed'", "'level7'"]),
        ("restoration.0.percents", [120], ["restoration.0.percents.0", "less than or equal to 100", "120"]),
        ("restoration.0.strategy", "largest", ["restoration.0.strategy", "absolute", "'largest'"]),
        ("restoration.0.region", "transfomer", ["restoration.0.region", "transformer", "values", "'transfomer'"]),
        ("restoration.0.region", "mlp|attention", ["restoration.0.region", "named_regions", "0,5,7-9"]),
        ("restoration.0.region", "7-3", ["restoration.0.region", "7-3", "end before they begin"]),
        ("exports.0.region", "nowhere", ["exports.0.region", "'nowhere'"]),
        ("named_regions", {"mlp": "x"}, ["named_regions.mlp", "already"]),
        ("named_regions", {"a-b": "x"}, ["named_regions.a-b", "pattern"]),
        ("named_regions", {"a": "(x"}, ["named_regions.a", "no regular expression"]),
        ("finetuning.sizes", [], ["finetuning.sizes", "at least 1"]),
        ("finetuning.seeds", [1, 1], ["finetuning.seeds", "twice"]),
        ("facts.in_domain", ["home", "nowhere"], ["nowhere.yaml", "no templates for topic nowhere"]),
        ("facts.out_of_domain", ["home"], ["home is both"]),
        ("facts.synonyms", ["missing.csv"], ["facts.synonyms", "missing.csv"]),
        ("mastery.templates", 3, ["mastery.templates is 3", "only 2"]),
        ("mastery.boundaries", [0.5, 0.25, 0.75], ["mastery", "must rise"]),
        ("restoration.0.sizes", [9], ["restoration.0.sizes", "9", "[8, 1000, 'all']"]),
        ("models", {}, ["models", "at least 1"]),
        ("models", {"facts": {"source": {"directory": "."}}}, ["models.facts", "taken"]),
        ("models.tiny.source", {"hub": "a/b", "revision": "main"}, ["revision must be the whole hash"]),
        ("models.tiny.source", {"directory": "missing"}, ["models.tiny.source.directory", "missing is no folder"]),
        ("evaluation.per_level", {"dev": 2}, ["evaluation", "test"]),
        ("results", "", ["results", "at least 1"]),
        ("results", "a{b}", ["results", "pattern"]),
        ("finetuning.sizes", [True], ["finetuning.sizes: [true] is neither a number"]),
        ("finetuning.epochs", True, ["finetuning.epochs: true is neither a number"]),
        ("finetuning.learning_rate", float("nan"), ["finetuning.learning_rate", "finite"]),
        ("exports.0.run", "../../x", ["exports.0.run", "pattern"]),
        ("exports.0.run", "full-mixed-٣-s1", ["exports.0.run", "pattern"]),
        ("facts.templates", "a{b}", ["facts.templates", "pattern"]),
        ("facts.prompt", "a\nb", ["facts.prompt", "pattern"]),
        ("facts.synonyms", ["{x}.csv"], ["facts.synonyms.0", "pattern"]),
        ("facts.in_domain", ["home", "a-b"], ["facts.in_domain.1", "must be a word of letters, digits and _"]),
        ("models.tiny.source", {"directory": "{x}"}, ["models.tiny.source.directory", "pattern"]),
        ("named_regions", {"a": "(a+)+" * 300}, ["named_regions.a", "1,500 characters"]),
        ("regions", ["0-99999999999"], ["regions.0", "no region"]),
        ("restoration.0.region", 10**9, ["restoration.0.region", "not 1000000000"]),
        ("mastery.samples", 10**9, ["mastery.samples", "less than or equal to 100000"]),
        ("mastery.max_new_tokens", 10**9, ["mastery.max_new_tokens", "less than or equal to 100000"]),
        ("mastery.temperature", 1e-300, ["mastery.temperature", "greater than or equal to 0.001"]),
        ("evaluation.max_new_tokens", 10**9, ["evaluation.max_new_tokens", "less than or equal to 100000"]),
        ("evaluation.tokens_per_pass", 10**9, ["evaluation.tokens_per_pass", "less than or equal to 1000000"]),
        ("finetuning.lora.rank", 10**6, ["finetuning.lora.rank", "less than or equal to 65536"]),
        ("finetuning.epochs", 10**9, ["finetuning.epochs", "less than or equal to 100000"]),
        ("finetuning.seeds", [2**63], ["finetuning.seeds.0", "less than or equal to"]),
        ("seed", 10**4000, ["seed", "less than or equal to"]),
        ("finetuning.learning_rate", 1e300, ["finetuning.learning_rate", "less than or equal to 100"]),
        ("results", "x" * 5000, ["results", "at most 1000"]),
        ("models", {"x" * 65: {"source": {"directory": "."}}}, ["models", "pattern"]),
        ("facts.path", "https://me:secret@host/x.zip", ["facts.path: leave the user name", "~/.netrc for host"]),
        ("facts.path", "https://me:secret@host/{x}.zip", ["facts.path", "pattern", "https://…@host"]),
        ("finetuning.methods", ["https://me:secret@host"], ["finetuning.methods.0", "https://…@host"]),
        ("facts.path", "--table", ["facts.path", "pattern"]),
        ("models.tiny.instruct.chat", {"request": "a\ud800"}, ["holds half of a character"]),
        ("finetuning.variants", {"slow": {"method": "\ud800"}}, ["finetuning.variants", "half of a character"]),
        ("results", "a/" + "é" * 128, ["results: 'a/éé", "a name of more than 255 bytes"]),
        ("models.tiny.source", {"directory": "a" * 256}, ["models.tiny.source.directory", "more than 255 bytes"]),
        ("results", "--forceall", ["results", "pattern"]),
        ("results", "-", ["results", "pattern"]),
        ("restoration.0.percents", [1e-14], ["restoration.0.percents.0: 1e-14 % of no model's parameters"]),
        ("named_regions", {"a": ""}, ["named_regions.a", "at least 1"]),
        ("exports.0.run", "full-mixed-8-s01", ["exports.0.run", "pattern"]),
        ("exports.0.run", "full-mixed-08-s1", ["exports.0.run", "pattern"]),
        ("exports.0.run", "slow-mixed-8-s1", ["exports.0.run: its method slow is none of full, lora"]),
        ("models.tiny.source", {"hub": "../..", "revision": "0" * 40}, ["models.tiny.source.hub must be owner/name"]),
        (
            "models.tiny.source",
            {"wheel": "a\n--index-url=http://x", "version": "1", "sha256": "0" * 64, "file": "x.gguf"},
            ["models.tiny.source.wheel", "pattern"],
        ),
        (
            "models.tiny.source",
            {"wheel": "a", "version": "1 --pre", "sha256": "0" * 64, "file": "x.gguf"},
            ["models.tiny.source.version", "pattern"],
        ),
        ("tasks", [{"metric": "contains"}], ["tasks.0.questions is missing"]),
        ("tasks", [{"questions": "none.jsonl"}], ["tasks.0.questions: none.jsonl does not exist"]),
        ("tasks", [{"questions": "a b.jsonl"}], ["tasks.0.name", "pattern"]),
        ("tasks", [{"questions": "a.jsonl", "metric": "f1"}], ["tasks.0.metric", "'loglikelihood'", "'f1'"]),
        ("tasks", [{"questions": "a.jsonl", "tolerance": -1}], ["tasks.0.tolerance", "greater than or equal to 0"]),
        ("tasks", [{"questions": "a.jsonl"}, {"questions": "b/a.jsonl"}], ["tasks: a is the name of two tasks"]),
    ],
)
def test_a_mistake_is_named_with_what_is_allowed(raw: dict, key: str, value: object, said: list[str]) -> None:
    checking.check(raw, REPOSITORY)
    change(raw, key, value)
    with pytest.raises(checking.ConfigurationError) as caught:
        checking.check(raw, REPOSITORY)
    for words in said:
        assert words in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mastery.samples": 100_000, "mastery.max_new_tokens": 100}, ["20,000,000", "1,000,000"]),
        ({"finetuning.seeds": list(range(30_000))}, ["fine-tuned and restored models", "100,000"]),
        ({"restoration.0.percents": [number / 1000 for number in range(100_000)]}, ["fine-tuned and restored models"]),
        ({"evaluation.max_new_tokens": 50_000}, ["evaluation.max_new_tokens: 50,000", "10,000"]),
        (
            {"finetuning.sizes": [8, 1000, "all", 2 * 10**6], "finetuning.epochs": 1000},
            ["examples of a training", "2,000,000,000"],
        ),
        (
            {"finetuning.sizes": [8, 1000, "all", 10**6], "finetuning.epochs": 1000, "finetuning.replay": 2.5},
            ["examples of a training", "3,500,000,000"],
        ),
    ],
)
def test_an_unusual_size_needs_consent(raw: dict, changes: dict, said: list[str]) -> None:
    consent.check_size(checking.check(raw, REPOSITORY))
    for key, value in changes.items():
        change(raw, key, value)
    settings = checking.check(raw, REPOSITORY)
    with pytest.raises(checking.ConfigurationError) as caught:
        consent.check_size(settings)
    for words in [*said, "--config allow_large=true"]:
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    consent.check_size(checking.check(raw | {"allow_large": True}, REPOSITORY))


@pytest.mark.parametrize("name", ["config.yaml", *(f"configs/{path.name}" for path in CONFIGS)])
def test_no_configuration_of_the_project_needs_consent(name: str) -> None:
    settings = checking.check(yaml.safe_load((REPOSITORY / name).read_text()), REPOSITORY)
    consent.check_size(settings)


def test_models_are_counted_as_a_plan_counts_them(raw: dict) -> None:
    raw["restoration"][0] |= {"more_dtypes": ["bfloat16"], "strategy": "sign_agreeing", "sizes": None}
    settings = checking.check(raw, REPOSITORY)
    topics = {
        name: TopicSize("in_domain", {"train": 9000, "dev": 10, "test": 10}, 9000, 10.0, 10.0, 5.0)
        for name in settings.facts.in_domain
    }
    model = PlannedModel(settings, "tiny", ModelSize(1e6, 4e6, {}), topics)
    assert consent.count_models(settings) == len(model.runs) + len(model.restored)


@pytest.mark.slow  # Snakemake
def test_words_in_braces_are_no_wildcards(raw: dict, tmp_path: Path) -> None:
    raw["named_regions"]["values"] = r"v_pro{1}j\.weight$"
    raw["models"]["tiny"]["instruct"]["chat"] = {"request": "Say {name}."}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "1"]
    command += ["--dry-run", "plan", "results/tables/published.parquet"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow  # Snakemake
def test_a_configuration_that_runs_python_is_refused(raw: dict, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw | {"__use_yte__": True, "made": "?open('made', 'w')"}))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "config.yaml: __use_yte__ makes Snakemake run the Python" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "made").exists()


@pytest.mark.parametrize("raw_text", ["", "# later\n", "- a\n", "7\n"])
def test_a_file_without_keys_is_named(raw_text: str) -> None:
    with pytest.raises(checking.ConfigurationError, match=r"^config\.yaml: must consist of keys with values, and is "):
        checking.refuse_templates(yaml.safe_load(raw_text), "config.yaml")


@pytest.mark.slow  # Snakemake
def test_a_configuration_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").symlink_to("config.yaml")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "1", "-n"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "'config.yaml' cannot be read" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("results", "said"),
    [
        (".", ". is or holds the folder that this runs in"),
        ("..", ".. is or holds the folder that this runs in"),
        ("/.", "/. is or holds the folder that this runs in"),
        ("link", "link is or holds the folder that this runs in"),
        ("facts/./templates", "is also facts.templates, which is read"),
        ("model", "model is also models.tiny.source.directory, which is read"),
        ("bot", "bot is also models.tiny.tuned.bot.source.directory, which is read"),
        ("file", "file is no folder"),
        ("file/inside/it", "file is no folder"),
    ],
)
def test_results_are_a_folder_of_their_own(
    raw: dict, results: str, said: str, tiny_facts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "bot").mkdir()
    (tmp_path / "link").symlink_to(".")
    (tmp_path / "facts").symlink_to(tiny_facts)
    raw["facts"]["templates"], raw["models"]["tiny"]["source"] = "facts/templates", {"directory": "model"}
    raw["models"]["tiny"]["tuned"] = {"bot": {"source": {"directory": "bot"}}}
    checking.check(raw, REPOSITORY)
    with pytest.raises(checking.ConfigurationError) as caught:
        checking.check({**raw, "results": results}, REPOSITORY)
    assert str(caught.value).startswith("configuration: results: ") and said in str(caught.value)


def test_an_entry_that_stands_there_twice_is_named(raw: dict) -> None:
    raw["restoration"] = [raw["restoration"][0], dict(raw["restoration"][0])]
    with pytest.raises(checking.ConfigurationError, match=r"restoration\.1: is the same as restoration\.0"):
        checking.check(raw, REPOSITORY)


def test_all_mistakes_are_listed_a_line_each(raw: dict) -> None:
    change(raw, "finetuning.data", ["level7"])
    change(raw, "restoration.0.percents", [120])
    with pytest.raises(checking.ConfigurationError) as caught:
        checking.check(raw, REPOSITORY)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize("section", ["mastery", "evaluation"])
def test_an_old_key_gives_one_line_that_names_the_new_one(raw: dict, section: str) -> None:
    raw[section]["rows"] = raw[section].pop("tokens_per_pass")
    with pytest.raises(checking.ConfigurationError) as caught:
        checking.check(raw, REPOSITORY)
    assert str(caught.value) == f"configuration: {section}.rows is now called {section}.tokens_per_pass"


def test_snakemake_says_it_before_any_job(raw: dict, tmp_path: Path) -> None:
    change(raw, "finetuning.data", ["level7"])
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile"), "--cores", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "finetuning.data.0" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "results").exists()
