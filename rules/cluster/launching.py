"""The command that starts a training: one process, several on a node, or several nodes under SLURM."""

import shlex


def launcher(processes: int, nodes: int = 1, threads: int = 1, gpus: int = 0) -> str:
    """What stands before a script in a shell command; the script itself only reads torchrun's environment.

    Args:
        processes: per node.
        nodes: of the SLURM job that the command runs in, on its first node.
        threads: CPU threads per node.
        gpus: per node.
    """
    if nodes == 1:
        return "python" if processes <= 1 else f"torchrun --standalone --nproc-per-node {processes}"
    # srun tells every task its node's number and the address of the node it was started on, which is the first. Jobs that
    # share a node differ in their ids, hence in their ports.
    meet = (
        f"exec torchrun --nnodes {nodes} --nproc-per-node {processes} --node-rank $SLURM_NODEID"
        ' --master-addr $SLURM_LAUNCH_NODE_IPADDR --master-port $((10000 + SLURM_JOB_ID % 20000)) "$@"'
    )
    step = f"srun --nodes {nodes} --ntasks {nodes} --ntasks-per-node 1 --cpus-per-task {threads} --kill-on-bad-exit=1"
    if gpus:
        step += f" --gpus-per-node {gpus}"
    return f"{step} bash -c {shlex.quote(meet)} torchrun"
