# Turn raw questions into facts.
#   needs   RAW/{train,dev,test}/TOPIC.{split}.json, an archive of them, or one table of facts; templates
#   makes   raw/ (from an archive), facts/TOPIC.parquet
from knowshift.facts.templates import read_topic_templates


localrules:
    retrieve_entityquestions,


RAW = f"{RESULTS}/raw" if SETTINGS.facts.source == "archive" else located(SETTINGS.facts.path)


rule retrieve_entityquestions:
    output:
        manifest=f"{RESULTS}/raw/manifest.json",
    log:
        f"{RESULTS}/logs/retrieve_entityquestions.log",
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(500),
    params:
        spec=spec_of(
            {
                "location": SETTINGS.facts.path or sections.ENTITYQUESTIONS,
                "contents_sha256": SETTINGS.facts.contents_sha256,
            }
        ),
        code=digest("retrieve_entityquestions"),
        archive=content(*[path for path in [SETTINGS.facts.path] if path and "://" not in path]),
        script=script("retrieve_entityquestions"),
        raw=subpath(output.manifest, parent=True),
        downloads=f"{RESULTS}/downloads",
    message:
        "Fetch the raw questions"
    shell:
        "python {params.script:q} --spec {params.spec:q} --downloads {params.downloads:q}"
        " --output {params.raw:q} 2> {log:q}"


@cache
def topic_templates(topic):
    """Read the templates of a topic."""
    return read_topic_templates(Path(templates_of(topic)))


def siblings(topic):
    """List the topics that ask the same question, in the order of the configuration. They must not share a fact."""
    question = topic_templates(topic).question
    return [other for other in DOMAINS[DOMAIN_OF[topic]] if topic_templates(other).question == question]


def questions(wildcards):
    """Return what facts take from the templates: the questions of a topic and its siblings, not the completions."""
    return canonical_json([[topic, topic_templates(topic).question] for topic in siblings(wildcards.topic)])


def raw_files(topic):
    """List the inputs of a topic's facts. An archive counts by the manifest of the files in it."""
    if SETTINGS.facts.source == "archive":
        return f"{RAW}/manifest.json"
    if SETTINGS.facts.source == "table":
        return ancient(RAW)  # the topic's own rows count, by a param: other topics do not rerun with them
    return [f"{RAW}/{split}/{name}.{split}.json" for name in siblings(topic) for split in PROBED_SPLITS["in_domain"]]


@cache
def fact_table():
    """Read the user's table of facts, for its digests."""
    from knowshift.facts.user_table import FactTable

    try:
        return FactTable(Path(RAW))
    except KnowshiftError as error:
        raise WorkflowError(str(error)) from None


def facts_spec(wildcards):
    """Return the part of the configuration that changes a topic's facts."""
    spec = {"domain": DOMAIN_OF[wildcards.topic], "on_bad_rows": SETTINGS.facts.on_bad_rows}
    if SETTINGS.facts.source == "table":
        spec["split_shares"] = SETTINGS.facts.split_shares.model_dump()
    return canonical_json(spec)


def table_rows(wildcards):
    """Return a digest of a topic's rows in the user's table."""
    return fact_table().digest(siblings(wildcards.topic)) if SETTINGS.facts.source == "table" else ""


rule build_facts:
    input:
        raw=lambda wc: raw_files(wc.topic),
        templates=lambda wc: ancient(templates_of(wc.topic)),  # what counts of them is in `questions`
        siblings=lambda wc: ancient([templates_of(topic) for topic in siblings(wc.topic)]),
    output:
        facts=f"{RESULTS}/facts/{{topic}}.parquet",
    log:
        f"{RESULTS}/logs/build_facts/{{topic}}.log",
    benchmark:
        f"{RESULTS}/benchmarks/build_facts/{{topic}}.tsv"
    conda:
        "../envs/knowshift.yaml"
    resources:
        mem_mb=memory(500),
    params:
        spec=facts_spec,
        code=digest("build_facts"),
        rows=table_rows,
        files=lambda wc: content(*raw_files(wc.topic)) if SETTINGS.facts.source == "folder" else "",
        questions=questions,
        script=script("build_facts"),
        source=["--table" if SETTINGS.facts.source == "table" else "--raw", RAW],
    message:
        "Facts of {wildcards.topic}"
    shell:
        "python {params.script:q} {params.source:q} --templates {input.templates:q}"
        " --siblings {input.siblings:q} --spec {params.spec:q} --output {output.facts:q} 2> {log:q}"
