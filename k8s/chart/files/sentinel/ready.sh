# Whether this Redis is of use: a master, or a replica that is connected to its master. POSIX sh.
info=$(redis-cli --no-auth-warning -e INFO replication | tr -d '\r') || exit 1
case $info in
  *role:master*) ;;
  *master_link_status:up*)
    # It has started without data (redis.sh), and now has the master's: it may be promoted.
    case $info in *slave_priority:0*) redis-cli --no-auth-warning CONFIG SET replica-priority 100 >/dev/null ;; esac
    ;;
  *) exit 1 ;;
esac
