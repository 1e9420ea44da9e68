[ -z "$REDISCLI_AUTH" ] || login="requirepass \"$(printf %s "$REDISCLI_AUTH" | sed 's/[\\"]/\\&/g')\""
exec redis-server - <<END
protected-mode no
dir /data
appendonly yes
save ""
maxmemory 128mb
maxmemory-policy volatile-ttl
$login
END
