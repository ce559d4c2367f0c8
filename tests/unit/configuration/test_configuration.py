"""Configuration errors are one clear line each; scripts and library keep to their places."""

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
SCRIPTS = sorted(path for path in (REPOSITORY / "scripts").glob("*.py"))


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
        ("models.tiny.bos", "sometimes", ["models.tiny.bos", "'as_tokenizer'", "'sometimes'"]),
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
        ("models.tiny.source", {"hub": "a/b", "revision": "main"}, ["models.tiny.source", "revision"]),
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
        ("facts.in_domain", ["home", "a-b"], ["facts.in_domain.1", "pattern"]),
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
        ("facts.path", "https://me:secret@host/x.zip", ["facts: path: leave the user name", "~/.netrc for host"]),
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
        ({"finetuning.seeds": [1]}, "restoration.0.strategy: sign_agreeing compares the models of several seeds, and"),
        ({"restoration.0.sizes": [8, "all"]}, "restoration.0.sizes: the size all is trained with one seed only, and"),
        (
            {
                "restoration.0.strategy": "top",
                "exports.0.strategy": "sign_agreeing",
                "exports.0.run": "full-mixed-all-s1",
            },
            "exports.0.run: the size all is trained with one seed only, and sign_agreeing compares",
        ),
    ],
)
def test_a_strategy_that_compares_seeds_needs_several(raw: dict, changes: dict, said: str) -> None:
    change(raw, "restoration.0.strategy", "sign_agreeing")
    checking.check(raw, REPOSITORY)
    for key, value in changes.items():
        change(raw, key, value)
    with pytest.raises(checking.ConfigurationError) as caught:
        checking.check(raw, REPOSITORY)
    assert said in str(caught.value) and "\n" not in str(caught.value)


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


# --- the code ---


def test_the_library_knows_no_snakemake_no_command_line_and_no_environment() -> None:
    measures_the_machine = (
        REPOSITORY / "scripts/knowshift/planning/machine_speed.py"
    )  # variables limit its instructions
    for path in set((REPOSITORY / "scripts/knowshift").rglob("*.py")) - {measures_the_machine}:
        text = path.read_text()
        for word in ("argparse", "os.environ", "import snakemake", "from snakemake"):
            assert word not in text, path


@pytest.mark.slow  # many scripts import torch first
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_has_help(script: Path) -> None:
    done = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"python scripts/{script.name}" in done.stdout


def test_reading_the_snakefile_imports_nothing_heavy() -> None:
    paths = [str(REPOSITORY / folder) for folder in ("rules", "scripts")]
    program = (
        f"import sys; sys.path[:0] = {paths};"
        "import knowshift.configuration.checking, code_digests.digests, knowshift.finetuning.grid;"
        "print(sorted({'torch', 'transformers', 'pandas', 'altair'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_lock_holds_every_declared_dependency_and_no_address() -> None:
    import tomllib
    from importlib.metadata import version

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (REPOSITORY / "envs/requirements.lock").read_text().splitlines()
    locked = dict(line.split("==") for line in lines if not line.startswith("#"))
    locked = {canonicalize_name(name): number for name, number in locked.items()}
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        assert locked[canonicalize_name(wanted.name)] in wanted.specifier, "run: make lock"
        assert version(wanted.name).partition("+")[0] == locked[canonicalize_name(wanted.name)]
    assert not [line for line in lines[1:] if "/" in line or ":" in line]
    conda = yaml.safe_load((REPOSITORY / "envs/knowshift.yaml").read_text())
    assert conda["dependencies"][-1]["pip"] == [line for line in lines if not line.startswith("#")]
