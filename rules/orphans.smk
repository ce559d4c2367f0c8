# Jobs on a cluster go on when their Snakemake is killed. Before the next Snakemake submits anything, it waits for them
# here and takes over the outputs that they finished.
from cluster import orphans


onstart:
    forget_forced()
    if not workflow.local_exec and workflow.execution_settings.lock:
        code = [file for folder in ("rules", "scripts") for file in (BASE / folder).rglob("*.py")]
        if orphans.wait():
            orphans.start_again(workflow)
        orphans.take_over(workflow, [*map(Path, workflow.configfiles), *code])
