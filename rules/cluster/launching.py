"""The command that starts a fine-tuning: one process, several on a node, or several nodes under SLURM."""

import shlex


def launcher(processes: int, nodes: int = 1, threads: int = 1, gpus: int = 0) -> str:
    """Return what stands before a script in a shell command. The script itself only reads torchrun's environment.

    Args:
        processes: processes per node.
        nodes: nodes of the SLURM job; the command runs on its first one.
        threads: CPU threads per node.
        gpus: GPUs per node.
    """
    if nodes == 1:
        return "python" if processes <= 1 else f"torchrun --standalone --nproc-per-node {processes}"
    # srun tells every task its node's number and the address of the first node, where srun was started. Jobs that share
    # a node have different ids, and so different ports.
    meet = (
        f"exec torchrun --nnodes {nodes} --nproc-per-node {processes} --node-rank $SLURM_NODEID"
        ' --master-addr $SLURM_LAUNCH_NODE_IPADDR --master-port $((10000 + SLURM_JOB_ID % 20000)) "$@"'
    )
    step = f"srun --nodes {nodes} --ntasks {nodes} --ntasks-per-node 1 --cpus-per-task {threads} --kill-on-bad-exit=1"
    if gpus:
        step += f" --gpus-per-node {gpus}"
    return f"{step} bash -c {shlex.quote(meet)} torchrun"
