# Starts a Sentinel. What it watches, redis.sh tells it, and it keeps that in its file. POSIX sh.
set -eu
. "$(dirname "$0")/group.sh"

file=/data/sentinel.conf
address=$(own_address)
password=$(quoted_password)
# The settings are ours, the state is its own.
state=$(grep '^sentinel ' $file 2>/dev/null | grep -v '^sentinel announce-' || true)
cat >$file.new <<END
port 26379
protected-mode no
dir /data
sentinel announce-ip $address
sentinel announce-port 26379
${password:+requirepass $password}
$state
END
mv $file.new $file
exec redis-server $file --sentinel
