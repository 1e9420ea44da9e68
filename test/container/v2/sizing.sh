# Runs in the virtual machine: makes cgroups as container engines make them, and has looks.ts look at each.
set -eu
cd /sys/fs/cgroup
MiB=1048576

# Makes a cgroup, and hands the controllers on to those below it.
group() { mkdir "$1"; echo '+cpu +memory +cpuset' > "$1/cgroup.subtree_control"; }

# inside CGROUP COMMAND...
inside() { sh -c 'echo $$ > "/sys/fs/cgroup/$0/cgroup.procs"; exec "$@"' "$@"; }

# look NAME CGROUP COMMAND...: the command runs another one, in namespaces of its own. Not the command line of the kit: loading it takes seconds here.
look() {
  name=$1 cgroup=$2; shift 2
  inside "$cgroup" "$@" node /app/test/container/v2/looks.ts "$name="
}

group pod; mkdir pod/tight
echo 300000 > pod/cpu.max; echo 150000 > pod/tight/cpu.max
echo $((1024 * MiB)) > pod/memory.max; echo $((512 * MiB)) > pod/tight/memory.max

group node; group node/pod; mkdir node/pod/loose
echo 350000 > node/cpu.max; echo '75000 50000' > node/pod/cpu.max; echo 250000 > node/pod/loose/cpu.max
echo $((900 * MiB)) > node/memory.max; echo $((512 * MiB)) > node/pod/memory.max; echo $((1024 * MiB)) > node/pod/loose/memory.max

group pinned; mkdir pinned/app
echo 1,3 > pinned/cpuset.cpus

mkdir high
echo $((1024 * MiB)) > high/memory.max; echo $((200 * MiB)) > high/memory.high
node /app/test/container/v2/looks.ts 'no limit=.' 'tight in a looser pod=pod/tight' 'loose in a tighter pod=node/pod/loose' \
  'pinned by its pod=pinned/app' 'memory.high below memory.max=high'

# As an engine does it: the container's own cgroup is the root of all that it sees.
look 'cgroup namespace' node/pod/loose unshare-cgroup --cgroup --mount \
  sh -c 'cd /; umount /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup; exec "$@"' sh
# By a mount alone: /proc/self/cgroup has the whole path, the files are at the mount point.
look 'mount of its own cgroup' node/pod/loose unshare-cgroup --mount \
  sh -c 'mount --bind /sys/fs/cgroup/node/pod/loose /sys/fs/cgroup; exec "$@"' sh
