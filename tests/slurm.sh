#!/bin/bash
# A sweep of 20 cells as an array on a real SLURM of this machine alone, one task of which another job displaces.
#
#     bash tests/slurm.sh [PYTHON]      as root, on Debian; installs slurm-wlm and munge, leaves no daemon and no file behind
#
# Ends with status 0 if every cell was recorded once and the displaced task came back.
set -euo pipefail
python=$(command -v "${1:-python}")
command -v slurmctld slurmd munged sbatch > /dev/null || apt-get install -y -q slurm-wlm munge > /dev/null
here=$(mktemp -d)
export SLURM_CONF=$here/slurm.conf
finish() {
    status=$?
    trap - EXIT
    scancel --user="$(id -un)" 2> /dev/null || true
    for name in slurmd slurmctld; do [ -s "$here/$name.pid" ] && kill "$(cat "$here/$name.pid")" 2> /dev/null; done
    [ -s "$here/munged.pid" ] && kill "$(cat "$here/munged.pid")" 2> /dev/null
    sleep 2
    if [ "$status" -ne 0 ]; then tail -n 20 "$here"/*.log; fi
    rm -rf "$here"
    exit "$status"
}
trap finish EXIT

cat > "$SLURM_CONF" << END
ClusterName=one
SlurmctldHost=$(hostname -s)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$here/munge.socket
CryptoType=crypto/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
StateSaveLocation=$here/state
SlurmdSpoolDir=$here/spool
SlurmctldPidFile=$here/slurmctld.pid
SlurmdPidFile=$here/slurmd.pid
SlurmctldLogFile=$here/slurmctld.log
SlurmdLogFile=$here/slurmd.log
NodeName=$(hostname -s) CPUs=2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF
END
mkdir "$here/state" "$here/spool"
chmod 755 "$here"
dd if=/dev/urandom of="$here/munge.key" bs=1024 count=1 status=none
chmod 400 "$here/munge.key"
munged --force --key-file="$here/munge.key" --socket="$here/munge.socket" --pid-file="$here/munged.pid" \
    --log-file="$here/munged.log" --seed-file="$here/munge.seed" 2> /dev/null
slurmctld
slurmd
for _ in $(seq 60); do sinfo -h -o %T 2> /dev/null | grep -q idle && break; sleep 1; done
sinfo

run=("$python" -m experiments.weight_sharing --arms=conv_gmp,conv_flatten --seeds=10 --epochs=30 --save_every=1 --workdir="$here/a sweep")
"${run[@]}" --launcher=slurm --tasks=2 --workers=1 --sbatch="--partition=low --cpus-per-task=1 --mem=0"
for _ in $(seq 600); do
    [ -s "$here/a sweep/results.jsonl" ] && ls "$here/a sweep/states/"*.checkpoint > /dev/null 2>&1 && break
    sleep 1
done
displacing=$(sbatch --parsable --partition=high --cpus-per-task=1 --mem=0 --output=/dev/null --wrap='sleep 5')
echo "job $displacing displaces a task:"
sleep 3
squeue
for _ in $(seq 1200); do [ -z "$(squeue -h)" ] && break; sleep 1; done
grep -h -o -i "preempt.*" "$here/slurmctld.log" | head -3
echo "what the tasks said:"
tail -n 3 "$here/a sweep/slurm/"*.log
"$python" -m experiments.status "$here/a sweep"
"${run[@]}" --workers=1 > "$here/table"
head -n 5 "$here/table"
"$python" - "$here" << 'END'
import json, pathlib, sys

here = pathlib.Path(sys.argv[1])
rows = [json.loads(line) for line in (here / 'a sweep/results.jsonl').read_text().splitlines()]
cells = [row['cell'] for row in rows]
preempted = (here / 'slurmctld.log').read_text().lower().count('preempted')
print(f'{len(set(cells))} cells, {len(cells) - len(set(cells))} twice, {preempted} lines of the controller about displaced jobs')
assert len(cells) == len(set(cells)) == 20 and preempted and {row['status'] for row in rows} == {'ok'}
END
