# Input functions and specs of all stages, in pipeline order.
DOMAINS = {"in_domain": FACTS.in_domain, "out_of_domain": FACTS.out_of_domain}
DOMAIN_OF = {topic: domain for domain, topics in DOMAINS.items() for topic in topics}
RAW = f"{RESULTS}/raw" if FACTS.source == "archive" else resource(FACTS.path)
MASTERY = SETTINGS.mastery
CELLS = cells(**fields(GRID, *configuration.GRID_KEYS))  # that are wanted; some may have too few facts
UNITS = [(topic, split) for domain, topics in DOMAINS.items() for topic in topics for split in SPLITS[domain]]


@cache
def question_of(topic):
    """The question template of a topic."""
    return configuration.read_topic_templates(Path(templates_of(topic))).question


def siblings(topic):
    """The topics that ask the same question, in the order of the configuration: they must not share a fact."""
    return [other for other in DOMAINS[DOMAIN_OF[topic]] if question_of(other) == question_of(topic)]


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
    from knowshift.fact_table import FactTable

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
    if isinstance(source, configuration.DirectorySource):
        spec["source"]["digest"] = provenance.directory_digest(Path(source.directory), model.trust_remote_code)
    return canonical_json(spec)


def is_fetched(entry):
    """Whether a model is downloaded: on a cluster where Snakemake runs, since other nodes may have no network."""
    return entry is not None and not isinstance(entry.source, configuration.DirectorySource)


def probe_spec(wildcards):
    chosen = fields(MASTERY, "samples", "temperature", "max_new_tokens", "engine", "dtype", "rows", "prompt_rows")
    limit = FACTS.dev_limit if wildcards.split == "dev" else None
    more = {"templates_used": MASTERY.templates, "split": wildcards.split, "facts_limit": limit, "seed": SETTINGS.seed}
    return canonical_json({**chosen, **more})


@cache
def feasible_runs(model):
    """The cells of a model that have facts enough; known once its mastery is."""
    import pyarrow.parquet as pq

    levels = pq.read_table(checkpoints.count_levels.get(model=model).output.levels)
    return [cell for cell in CELLS if is_feasible(cell, levels)]


def order_of(wildcards):
    """The order that a run takes its facts from."""
    cell = Cell.parse(wildcards.run)
    return f"{RESULTS}/{wildcards.model}/orders/{cell.data}-s{cell.seed}.parquet"


def size_of(run):
    """The size of a run, None for all."""
    size = Cell.parse(run).size
    return None if size == "all" else size


def finetune_spec(wildcards):
    cell = Cell.parse(wildcards.run)
    method, training = GRID.training(cell.method)
    recipe = training.model_dump(exclude=set() if method == "lora" else {"lora"})
    more = {"method": method, "size": size_of(wildcards.run), "name": f"s{cell.seed}", "seed": SETTINGS.seed}
    return canonical_json({**recipe, **more})


def evaluation_spec(**more):
    chosen = fields(SETTINGS.evaluation, "per_level", "max_new_tokens", "engine", "dtype", "rows", "prompt_rows")
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
    return [f"{RESULTS}/{wildcards.model}/runs/{wildcards.run}/updates/{wildcards.region}.histogram.parquet"]


def restore_spec(wildcards):
    return evaluation_spec(**run_questions(wildcards.run), **restored_part(wildcards))


def is_restored(entry, model, cell):
    """Whether an entry under restoration takes in a cell of a model."""
    return (
        model in (entry.models or [model])
        and cell.method in (entry.methods or GRID.methods)
        and cell.data in (entry.data or GRID.data)
        and cell.size in (entry.sizes or GRID.sizes)
        and cell.seed in (entry.seeds or GRID.seeds)
    )


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


def exported_models():
    return [
        f"{RESULTS}/{e.model}/exports/{e.run}/{e.strategy}-{e.region}-{number(e.percent)}/manifest.json"
        for e in SETTINGS.exports
    ]


def of_runs(name):
    """Input function: a file of every feasible run of a model."""
    return lambda wc: [f"{RESULTS}/{wc.model}/runs/{cell.run}/{name}" for cell in feasible_runs(wc.model)]
