# What the scripts of this folder share: the addresses of the three pods, and how to ask them. POSIX sh.
# Every pod has a Service of its own name, whose address stays the same while the pod's changes.

NAME=sessions # as REDIS_SENTINEL_NAME
QUORUM=2
GROUP=${HOSTNAME%-*}
PODS="$GROUP-0 $GROUP-1 $GROUP-2"

say() { echo "$(date -u +%FT%TZ) $*" >&2; }

# ask HOST PORT COMMAND…: prints the reply, or nothing if none comes within a second.
ask() {
  _host=$1 _port=$2
  shift 2
  timeout 1 redis-cli --no-auth-warning -h "$_host" -p "$_port" "$@" 2>/dev/null || true
}

# The address of this pod's Service. With the namespace: /etc/hosts has the name alone, as the address of the pod.
own_address() {
  until _found=$(getent hosts "$HOSTNAME.$NAMESPACE.svc"); do
    say "waiting for DNS: no address for the Service $HOSTNAME.$NAMESPACE"
    sleep 1
  done
  echo "${_found%% *}"
}

# The password, quoted for a line of a configuration file or of redis-cli; empty if there is none.
quoted_password() { [ -z "${REDISCLI_AUTH:-}" ] || printf '"%s"' "$(printf %s "$REDISCLI_AUTH" | sed 's/[\\"]/\\&/g')"; }

# Asks every Sentinel. Sets `answers`: how many have answered, `master`: its address by the latest of them, empty if none knows one, and
# `replicas`: whether any knows a replica.
ask_sentinels() {
  answers=0 master='' replicas=no _latest=-1
  for _pod in $PODS; do
    _reply=$(printf 'SENTINEL GET-MASTER-ADDR-BY-NAME %s\nSENTINEL MASTER %s\n' "$NAME" "$NAME" | ask "$_pod" 26379)
    case $_reply in
      *config-epoch*)
        answers=$((answers + 1))
        [ "$(printf '%s\n' "$_reply" | sed -n '/^num-slaves$/{n;p;}')" = 0 ] || replicas=yes
        _epoch=$(printf '%s\n' "$_reply" | sed -n '/^config-epoch$/{n;p;}')
        if [ "$_epoch" -gt "$_latest" ]; then
          _latest=$_epoch
          master=$(printf '%s\n' "$_reply" | sed -n 1p)
        fi
        ;;
      *'No such master'*) answers=$((answers + 1)) ;;
      ?*) say "the Sentinel of $_pod: $_reply" ;;
    esac
  done
}

# monitor POD ADDRESS: makes the Sentinel of a pod watch this master, if it watches none, with our times and password. Prints its replies.
# A master is down after 1.2, 1.6 or 2 s without an answer: Sentinels that notice it at the same moment vote for themselves, and nobody
# wins. Then they try again after twice the failover-timeout. info-period: by default a new replica is known, and can be promoted, after 10 s.
monitor() {
  printf 'SENTINEL MONITOR %s %s 6379 %s\nSENTINEL SET %s down-after-milliseconds %s failover-timeout 3000 parallel-syncs 2 auth-pass %s\nSENTINEL DEBUG info-period 1000\n' \
    "$NAME" "$2" "$QUORUM" "$NAME" "$((1200 + 400 * ${1##*-}))" "$(quoted_password | grep . || echo '""')" | ask "$1" 26379
}
