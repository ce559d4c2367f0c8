# Input functions and specs of all stages, in pipeline order.
from knowshift.facts.templates import read_topic_templates

DOMAINS = {"in_domain": FACTS.in_domain, "out_of_domain": FACTS.out_of_domain}
DOMAIN_OF = {topic: domain for domain, topics in DOMAINS.items() for topic in topics}
RAW = f"{RESULTS}/raw" if FACTS.source == "archive" else resource(FACTS.path)
MASTERY = SETTINGS.mastery
CELLS = cells(**fields(GRID, *sections.GRID_KEYS))  # that are wanted; some may have too few facts
UNITS = [(topic, split) for domain, topics in DOMAINS.items() for topic in topics for split in SPLITS[domain]]


@cache
def topic_templates(topic):
    """The templates of a topic."""
    return read_topic_templates(Path(templates_of(topic)))


def siblings(topic):
    """The topics that ask the same question, in the order of the configuration: they must not share a fact."""
    question = topic_templates(topic).question
    return [other for other in DOMAINS[DOMAIN_OF[topic]] if topic_templates(other).question == question]


def questions(wildcards):
    """What facts are built with of the templates: the question, of a topic and its siblings, and no completions."""
    return canonical_json([[topic, topic_templates(topic).question] for topic in siblings(wildcards.topic)])


def completions(topics):
    """What a model is probed with of the templates: the completions in use, and no more of them."""
    return canonical_json([[topic, topic_templates(topic).completions[: MASTERY.templates]] for topic in topics])


def raw_files(topic):
    """What a topic's facts are built from; of an archive, the manifest of what was in it."""
    if FACTS.source == "archive":
        return f"{RAW}/manifest.json"
    if FACTS.source == "table":
        return ancient(RAW)  # the topic's own rows count, by a param: other topics do not rerun with them
    return [f"{RAW}/{split}/{name}.{split}.json" for name in siblings(topic) for split in SPLITS["in_domain"]]


@cache
def fact_table():
    """The user's table of facts, for its digests."""
    from knowshift.facts.user_table import FactTable

    try:
        return FactTable(Path(RAW))
    except KnowshiftError as error:
        raise WorkflowError(str(error)) from None


def facts_spec(wildcards):
    spec = {"domain": DOMAIN_OF[wildcards.topic], "on_bad_rows": FACTS.on_bad_rows}
    if FACTS.source == "table":
        spec["split_shares"] = FACTS.split_shares.model_dump()
    return canonical_json(spec)


def table_rows(wildcards):
    """A digest of a topic's rows of the user's table."""
    return fact_table().digest(siblings(wildcards.topic)) if FACTS.source == "table" else ""


def source_spec(model):
    """Where a model comes from; of a local folder also a digest, because Snakemake does not look inside it."""
    source = model.source
    spec = {"source": source.model_dump()} | ({"trust_remote_code": True} if model.trust_remote_code else {})
    if isinstance(source, sections.DirectorySource):
        spec["digest"] = digests.directory_digest(Path(source.directory), model.trust_remote_code)
    return canonical_json(spec)


def is_fetched(entry):
    """Whether a model is downloaded: on a cluster where Snakemake runs, since other nodes may have no network."""
    return entry is not None and not isinstance(entry.source, sections.DirectorySource)


def probe_spec(wildcards):
    chosen = fields(MASTERY, "samples", "temperature", "max_new_tokens", "engine", "tokens_per_pass")
    chosen["dtype"] = SETTINGS.models[wildcards.model].dtype or MASTERY.dtype
    limit = FACTS.dev_limit if wildcards.split == "dev" else None
    more = {"templates": MASTERY.templates, "split": wildcards.split, "facts_limit": limit, "seed": SETTINGS.seed}
    return canonical_json({**chosen, **more})


@cache
def level_counts(model):
    """The table of a model's levels; known once its mastery is."""
    import pyarrow.parquet as pq

    announce(model)
    return pq.read_table(checkpoints.count_levels.get(model=model).output.levels)


@cache
def announce(model):
    """Say in a dry run what will follow a checkpoint that it cannot look behind."""
    if workflow.dryrun and not Path(RESULTS, model, "levels.parquet").exists():
        logger.info(
            f"{model}: planned up to its mastery. If every level has facts enough, {len(CELLS)} fine-tuned models"
            f" and {len(restored_outcomes(model, CELLS))} restored ones follow."
        )


@cache
def feasible_runs(model):
    """The cells of a model that have facts enough."""
    return feasible(CELLS, level_counts(model))


def counted_levels(wildcards):
    """The levels, as something to wait for: newer ones alone make nothing stale."""
    return ancient(checkpoints.count_levels.get(model=wildcards.model).output.levels)


@cache
def drawable_digests(model):
    """Digests of the facts that each data kind of a model may draw."""
    metadata = level_counts(model).schema.metadata or {}
    return json.loads(metadata.get(b"knowshift", b"{}")).get("drawable", {})


def drawable_digest(wildcards):
    """A digest of the facts that a data kind may draw."""
    return drawable_digests(wildcards.model).get(wildcards.data)


def order_of(wildcards):
    """The order that a run takes its facts from."""
    cell = Cell.parse(wildcards.run)
    return f"{RESULTS}/{wildcards.model}/orders/{cell.data}-s{cell.seed}.parquet"


def size_of(run):
    """The size of a run, None for all."""
    size = Cell.parse(run).size
    return None if size == "all" else size


@cache
def training_of(method):
    """What a method trains (full or lora), and how."""
    kind, training = GRID.training(method)
    return kind, training.model_dump()


@cache
def recipe_of(method):
    """What of a method's training counts for its result."""
    kind, training = training_of(method)
    return {key: value for key, value in training.items() if key != "lora" or kind == "lora"} | {"method": kind}


def finetune_spec(wildcards):
    cell = Cell.parse(wildcards.run)
    more = {"size": size_of(wildcards.run), "name": f"s{cell.seed}", "seed": SETTINGS.seed}
    return canonical_json({**recipe_of(cell.method), **more})


def evaluation_spec(model, **more):
    chosen = fields(SETTINGS.evaluation, "per_level", "max_new_tokens", "engine", "tokens_per_pass")
    chosen["dtype"] = SETTINGS.models[model].dtype or SETTINGS.evaluation.dtype
    return canonical_json({**chosen, "seed": SETTINGS.seed, **more})


def run_questions(run):
    """What of the spec of a run's evaluation is its own: it asks some of its training set too."""
    return {"training_set": SETTINGS.evaluation.training_set, "size": size_of(run)}


def pattern_of(region):
    """What scripts are told of a region: of a named one, its regular expression."""
    return SETTINGS.named_regions.get(region, region)


def restored_part(wildcards):
    """What of a fine-tuning is undone."""
    return {
        "strategy": wildcards.strategy,
        "region": pattern_of(wildcards.region),
        "percent": float(wildcards.percent),
    }


def histogram_of(wildcards):
    """The stored histogram that a selection by relative change starts from; the other strategies have none."""
    if wildcards.strategy not in ("top", "bottom"):
        return []
    return [f"{RESULTS}/{wildcards.model}/runs/{wildcards.run}/changes/{wildcards.region}.histogram.parquet"]


def restore_spec(wildcards):
    return evaluation_spec(wildcards.model, **run_questions(wildcards.run), **restored_part(wildcards))


def restored_outcomes(model, runs):
    """The restored models of the configuration that are among `runs`."""
    return [
        f"{RESULTS}/{model}/runs/{cell.run}/restored/{entry.strategy}-{entry.region}-{number(percent)}.parquet"
        for cell in runs
        for entry in SETTINGS.restoration
        if is_restored(entry, model, cell)
        for percent in entry.percents
    ]


def kept_runs():
    """A pattern of the runs whose delta is kept because something restores or exports them, each of its own model."""
    kept = {(entry.model, entry.run) for entry in SETTINGS.exports}
    for model in SETTINGS.models:
        for cell in CELLS:
            if any(is_restored(entry, model, cell) for entry in SETTINGS.restoration):
                kept.add((model, cell.run))
    return "|".join(f"(?<={re.escape(f'/{model}/runs/')}){run}" for model, run in sorted(kept)) or "(?!)"


def final_results():
    """Tables and figures, so that one that was deleted is made again although the report does not ask for it."""
    answers = expand(f"{RESULTS}/{{model}}/tables/answers.parquet", model=SETTINGS.models)
    return [*rules.tabulate_facts.output, *rules.join_tables.output, *rules.plot.output, *answers]


def exported_models():
    """An input function for each export. It waits for the levels: what a dry run cannot know yet is not trained again."""

    def exported(entry):
        path = f"{entry.run}/{entry.strategy}-{entry.region}-{number(entry.percent)}/manifest.json"
        level_counts(entry.model)
        return f"{RESULTS}/{entry.model}/exports/{path}"

    return [lambda wc, entry=entry: exported(entry) for entry in SETTINGS.exports]


def files_of(model, *names):
    """Files of every feasible run of a model."""
    return [f"{RESULTS}/{model}/runs/{cell.run}/{name}" for cell in feasible_runs(model) for name in names]


def of_runs(name):
    """Input function: a file of every feasible run of a model."""
    return lambda wc: files_of(wc.model, name)


HISTOGRAMS = [f"changes/{region}.histogram.parquet" for region in SETTINGS.regions]
# Where deltas pass away, what reads them belongs to the stage that makes them: otherwise models would be trained twice.
READERS = ["outcomes.parquet", *HISTOGRAMS] if GRID.keep_deltas == "restored" else []


def of_models(*names):
    """Input functions of a stage's target, one per model: models do not wait for one another."""
    return [lambda wc, model=model: files_of(model, *dict.fromkeys(names)) for model in SETTINGS.models]


def restored_of_models():
    """The same for all restored models."""
    return [lambda wc, model=model: restored_outcomes(model, feasible_runs(model)) for model in SETTINGS.models]


def numbers(wildcards):
    """What charts and the page are made of: these tables fill one folder."""
    return [
        *rules.join_tables.output,
        rules.tabulate_costs.output.costs,
        rules.tabulate_published.output.published,
        rules.tabulate_facts.output.facts,
    ]
