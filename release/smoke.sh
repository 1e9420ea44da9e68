#!/usr/bin/env bash
# Installs a packed kit into an empty project and starts, restarts and stops an app there, on the Node.js and the system that run this.
#   release/smoke.sh koa-bosun-0.1.0.tgz
set -euo pipefail
tarball=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
folder=$(mktemp -d)
trap '[ -z "${kit:-}" ] || kill "$kit"; rm -rf "$folder"' EXIT
cd "$folder"
echo '{ "private": true }' > package.json
echo 'module.exports = (request, response) => response.end("served");' > app.cjs
npm install --no-audit --no-fund --loglevel error "$tarball"
export PORT=${PORT:-38471} ADMIN_PORT=${ADMIN_PORT:-38472} HOST=127.0.0.1 ADMIN_HOST=127.0.0.1 NODE_CLUSTER_WORKERS=2 CONTROL_SOCKET=$folder/bosun.sock
node_modules/.bin/bosun start ./app.cjs & kit=$!
for _ in $(seq 150); do
  [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$ADMIN_PORT/readyz")" = 200 ] && break
  sleep 0.2
done
test "$(curl -sS "http://127.0.0.1:$PORT/")" = served
node_modules/.bin/bosun restart
test "$(curl -sS "http://127.0.0.1:$PORT/")" = served
kill -TERM "$kit"
wait "$kit"
kit=
echo "koa-bosun starts, serves, restarts and stops on $(uname -s) with Node.js $(node --version)"
