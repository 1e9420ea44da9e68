# Starts Redis as what the Sentinels say: their master, or a replica of it. It decides nothing by itself, so that a Redis with old
# data, or none, never becomes a second master and never overwrites its replicas. POSIX sh.
set -eu
. "$(dirname "$0")/group.sh"

WAITING=/tmp/waiting # the liveness probe takes it for an answer
ORDINAL=${HOSTNAME##*-}
address=$(own_address)
is_empty=yes
[ ! -d /data/appendonlydir ] || is_empty=no

# The first start of the group. The first pod becomes the master; another one only if that pod is missing for a while. Each begins
# with the same Sentinel, where a second one fails.
claim() {
  for _pod in $PODS; do
    case $(monitor "$_pod" "$address") in *[Dd]uplicate*) return ;; esac
  done
}

# The Sentinels name us. Prints "master" if our data is the newest, else why to wait: Sentinels replace a master that does not answer.
role_of_named() {
  _others=0
  for _pod in $PODS; do
    [ "$_pod" != "$HOSTNAME" ] || continue
    _info=$(ask "$_pod" 6379 INFO replication)
    case $_info in *role:*) _others=$((_others + 1)) ;; *) continue ;; esac
    # Up to 1: it has started without us, as after a crash of the whole group.
    _offset=$(printf '%s\n' "$_info" | tr -d '\r' | sed -n 's/^slave_repl_offset://p')
    [ "${_offset:-1}" -le 1 ] || [ $replicas$is_empty = nono ] || { echo "$_pod has been our replica until now"; return; }
    [ $is_empty = no ] || [ "$(ask "$_pod" 6379 DBSIZE)" = 0 ] || { echo "$_pod has data, and we have none"; return; }
  done
  if [ $is_empty = yes ] && [ $_others = 0 ]; then echo 'we have no data, and no other Redis answers'; else echo master; fi
}

touch $WAITING
tries=0
while :; do
  ask_sentinels
  if [ "$answers" -lt $QUORUM ]; then
    say "waiting: $answers of 3 Sentinels answer"
  elif [ -z "$master" ]; then
    [ "$tries" -lt $((ORDINAL * 15)) ] || claim
    tries=$((tries + 1))
  elif [ "$master" != "$address" ]; then
    role=replica
    break
  else
    role=$(role_of_named)
    [ "$role" != master ] || break
    say "waiting for another master: $role"
  fi
  sleep 0.3
done
# Our Sentinel may be new, or have other settings.
monitor "$HOSTNAME" "$master" >/dev/null
say "starting as the $role; the master is $master"

# A Redis without data is not promoted before it has some: ready.sh ends that.
priority=100
[ $role$is_empty != replicayes ] || priority=0
password=$(quoted_password)
rm $WAITING
# min-replicas-to-write: a master that is cut off takes no writes. Replication buffers and the fork of a full synchronisation fit into
# the memory limit beside maxmemory.
exec redis-server - <<END
protected-mode no
dir /data
appendonly yes
save ""
maxmemory 128mb
maxmemory-policy volatile-ttl
min-replicas-to-write 1
min-replicas-max-lag 3
repl-diskless-sync-delay 0
repl-backlog-size 16mb
client-output-buffer-limit replica 48mb 48mb 10
replica-announce-ip $address
replica-priority $priority
${password:+requirepass $password
masterauth $password}
$([ $role = master ] || echo "replicaof $master 6379")
END
