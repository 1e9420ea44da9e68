# Before the pod of a master ends: a replica takes over, with everything that was acknowledged. POSIX sh.
set -eu
. "$(dirname "$0")/group.sh"

info() { redis-cli --no-auth-warning INFO replication | tr -d '\r'; }
role() { info | sed -n 's/^role://p'; }

[ "$(role)" = master ] || exit 0
# No write is accepted from here on. Those accepted before must reach a replica.
redis-cli --no-auth-warning CONFIG SET min-replicas-to-write 3 >/dev/null
tries=0
until info | awk -F: '$1 == "master_repl_offset" { own = $2 } /^slave[0-9]+:/ { match($0, /offset=[0-9]+/); at[substr($0, RSTART + 7, RLENGTH - 7)] } END { exit !(own in at) }'; do
  tries=$((tries + 1))
  [ $tries -lt 20 ] || break
  sleep 0.1
done
# Our own Sentinel is ending too.
for pod in $PODS; do
  [ "$pod" != "$HOSTNAME" ] || continue
  reply=$(ask "$pod" 26379 SENTINEL FAILOVER $NAME)
  say "handing over by the Sentinel of $pod: ${reply:-no answer}"
  case $reply in OK | INPROG*) break ;; esac
done
address=$(own_address)
tries=0
while [ $tries -lt 40 ]; do
  ask_sentinels
  [ -z "$master" ] || [ "$master" = "$address" ] || exit 0
  tries=$((tries + 1))
  sleep 0.2
done
