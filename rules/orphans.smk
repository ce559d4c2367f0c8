# Before anything is made: another run that writes to the same results is waited for. And jobs on a cluster go on when
# their Snakemake is killed; the next one waits for them here, and takes over the outputs that they finished.
# Files that a failed or killed job was to make again are made again, though Snakemake sees no reason.
import claiming
import unfinished
from cluster import orphans

if workflow.exec_mode == ExecMode.DEFAULT:
    if again := unfinished.call_for(Path(".snakemake")):
        logger.info(
            f"Deleted for jobs that then failed or were killed, so to be made again: {orphans.some(again)}. To keep"
            f" what was made from them before instead: snakemake --cleanup-metadata {' '.join(again[: orphans.MANY])}"
        )
    if not any(isinstance(other, unfinished.Failures) for other in logger.handlers):
        logger.addHandler(unfinished.Failures(Path(".snakemake")))


onstart:
    if workflow.execution_settings.lock and claiming.claim(Path(RESULTS)):
        orphans.start_again(workflow, "The other run has ended; starting again.")
    forget_forced()
    if not workflow.local_exec and workflow.execution_settings.lock:
        code = [file for folder in ("rules", "scripts") for file in (BASE / folder).rglob("*.py")]
        if orphans.wait():
            orphans.start_again(workflow)
        orphans.take_over(workflow, [*map(Path, workflow.configfiles), *code])
