#!/usr/bin/env bash
# A SLURM cluster of two nodes on this machine, for tests: no systemd, no accounting database.
#
#   cluster.sh install               Debian's slurm-wlm and munge
#   cluster.sh start                 configuration, munged, slurmctld, slurmd twice; waits until both nodes are idle
#   cluster.sh stop                  everything that start began, and the configuration
#   cluster.sh node-dies NODE        as if the power failed: slurmd and all processes of the node's jobs
#   cluster.sh node-leaves NODE      slurmd alone: the node is lost to the controller, its jobs live on
#   cluster.sh node-returns NODE
#   cluster.sh controller-restarts
#
# Only as root on Debian. A configuration that this script did not write is never touched. Where the cluster cannot be,
# it says why and exits with status 77.
set -euo pipefail

CONFIGURATION=/etc/slurm
MARK="# Written by knowshift's tests/slurm/cluster.sh, and removed by it."
STATE=/var/lib/knowshift-slurm
NODES=(node1 node2)

cannot() {
    echo "no SLURM cluster here: $*" >&2
    exit 77
}

[ "$(id -u)" = 0 ] || cannot "it takes root"
[ -f /etc/debian_version ] || cannot "this is not Debian"

is_ours() { head -n 1 "$1" | grep -qxF "$MARK"; }

refuse_foreign() {
    for file in "$CONFIGURATION"/{slurm,gres,cgroup}.conf; do
        if [ -e "$file" ] && ! is_ours "$file"; then cannot "$file is not of this script's making"; fi
    done
    if [ ! -d "$STATE" ] && pidof slurmctld slurmd >/dev/null; then cannot "SLURM runs already"; fi
}

install() {
    if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null; then return; fi
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update && apt-get -qq install --no-install-recommends slurm-wlm munge; } >/dev/null ||
        cannot "slurm-wlm and munge cannot be installed"
}

# Two nodes with the address of this machine and ports of their own. They declare four CPUs each, more than there may
# be, so that jobs of both run side by side. The files that stand for GPUs are only counted, nothing opens them.
configure() {
    mkdir -p "$CONFIGURATION" "$STATE"/{controller,node1,node2}
    cat >"$CONFIGURATION/slurm.conf" <<EOF
$MARK
ClusterName=knowshift
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=15
StateSaveLocation=$STATE/controller
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdSpoolDir=$STATE/%n
SlurmdPidFile=$STATE/slurmd-%n.pid
SlurmdLogFile=$STATE/slurmd-%n.log
SlurmdParameters=config_overrides
SlurmdTimeout=10
ReturnToService=2
KillWait=15
MinJobAge=300
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=5,bf_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
GresTypes=gpu
NodeName=node1 NodeAddr=127.0.0.1 NodeHostname=$(hostname -s) Port=17001 CPUs=4 RealMemory=16000 \
Gres=gpu:2 State=UNKNOWN
NodeName=node2 NodeAddr=127.0.0.1 NodeHostname=$(hostname -s) Port=17002 CPUs=4 RealMemory=16000 \
Gres=gpu:2 State=UNKNOWN
PartitionName=work Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL PriorityTier=10 PreemptMode=OFF
EOF
    printf '%s\n' "$MARK" "Name=gpu File=/dev/null" "Name=gpu File=/dev/zero" >"$CONFIGURATION/gres.conf"
    printf '%s\n' "$MARK" >"$CONFIGURATION/cgroup.conf"
}

start_node() { slurmd -N "$1"; }

# Whatever SLURM does, it answers after a moment.
wait_for() {
    for _ in $(seq 120); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.5
    done
    echo "SLURM did not come to: $*; see $STATE/*.log" >&2
    exit 1
}

is_idle() { [ "$(sinfo --noheader --Node --partition work --format %t | sort -u)" = idle ]; }

start() {
    refuse_foreign
    install
    stop
    configure
    if [ ! -S /run/munge/munge.socket.2 ] || ! munge --no-input >/dev/null 2>&1; then
        mkdir -p /run/munge && chown munge: /run/munge
        runuser --user munge -- munged --force
        touch "$STATE/munged-is-ours"
    fi
    wait_for munge --no-input
    slurmctld
    for node in "${NODES[@]}"; do start_node "$node"; done
    wait_for is_idle
}

# Whether a process is there, and no zombie: those have no command line.
lives() { [ -n "$(tr -d '\0' 2>/dev/null <"/proc/$1/cmdline")" ]; } 2>/dev/null

# End a process of ours by the pid it wrote, and wait until it is gone.
end() {
    local pid
    [ -f "$1" ] && pid=$(cat "$1") || return 0
    if [ -n "$pid" ] && kill "${2:--TERM}" "$pid" 2>/dev/null; then
        for _ in $(seq 100); do
            lives "$pid" || break
            sleep 0.1
        done
    fi
    rm -f "$1"
}

# The processes of a node's jobs carry its name in their environment; their parents are the daemons of job steps.
kill_jobs() {
    local environment pid parent steps=() tasks=()
    for environment in /proc/[0-9]*/environ; do
        grep -qzxF "SLURMD_NODENAME=$1" "$environment" 2>/dev/null || continue
        pid=${environment//[!0-9]/}
        tasks+=("$pid")
        parent=$(ps -o ppid= -p "$pid" | tr -d ' ') || continue
        if [ "$(ps -o comm= -p "$parent")" = slurmstepd ]; then steps+=("$parent"); fi
    done
    [ ${#tasks[@]} = 0 ] || kill -KILL "${steps[@]}" "${tasks[@]}" 2>/dev/null || true
}

stop() {
    [ -d "$STATE" ] || return 0
    if [ -f "$CONFIGURATION/slurm.conf" ] && is_ours "$CONFIGURATION/slurm.conf" && [ -f "$STATE/slurmctld.pid" ]; then
        scancel --user root --signal KILL 2>/dev/null || true
    fi
    for node in "${NODES[@]}"; do
        end "$STATE/slurmd-$node.pid"
        kill_jobs "$node"
    done
    end "$STATE/slurmctld.pid"
    if [ -f "$STATE/munged-is-ours" ]; then end /run/munge/munged.pid; fi
    for file in "$CONFIGURATION"/{slurm,gres,cgroup}.conf; do
        if [ -e "$file" ] && is_ours "$file"; then rm "$file"; fi
    done
    rm -rf "$STATE"
}

case "${1:-}" in
    install) install ;;
    start) start ;;
    stop) stop ;;
    node-dies)
        end "$STATE/slurmd-$2.pid" -KILL
        kill_jobs "$2"
        ;;
    node-leaves) end "$STATE/slurmd-$2.pid" -KILL ;;
    node-returns) start_node "$2" ;;
    controller-restarts)
        end "$STATE/slurmctld.pid"
        slurmctld
        wait_for squeue
        ;;
    *)
        sed -n '2,/^set /{/^#/s/^# \?//p}' "$0"
        exit 2
        ;;
esac
