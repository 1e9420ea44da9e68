# Before the pod of a master ends: a replica takes over, with everything that was acknowledged. POSIX sh.
set -eu
. "$(dirname "$0")/group.sh"

cli() { redis-cli --no-auth-warning "$@"; }

[ "$(cli ROLE | head -n 1)" = master ] || exit 0
# No write is accepted from here on. Those accepted before must reach a replica: WAIT covers all up to the last command of its connection
# that replicas get, and that is PUBLISH.
cli CONFIG SET min-replicas-to-write 3 >/dev/null
printf 'PUBLISH handover 1\nWAIT 1 2000\n' | cli >/dev/null
# Our own Sentinel is ending too. Once another one has begun, this Redis ends at once: while it still served, somebody could read an old
# session here and write it over a newer one there. The Sentinel promotes the replica at its next ticks, 100 ms apart.
for pod in $PODS; do
  [ "$pod" != "$HOSTNAME" ] || continue
  reply=$(ask "$pod" 26379 SENTINEL FAILOVER $NAME)
  case $reply in OK | INPROG*) cli SHUTDOWN; exit ;; esac
  say "no handover by the Sentinel of $pod: ${reply:-no answer}"
done
