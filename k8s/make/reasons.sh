#!/bin/sh
# Why pods do not serve: for each one that is not ready what its scheduler, its container and the kit in it say.
# Usage: reasons.sh NAMESPACE DEPLOYMENT INSTANCE
set -u
namespace=$1 instance=$3
k() { kubectl -n "$namespace" "$@"; }
ready='jsonpath={.status.conditions[?(@.type=="Ready")].status}'
for pod in $(k get pods -l "app.kubernetes.io/instance=$instance" -o name); do
  [ "$(k get "$pod" -o "$ready")" != True ] || continue
  echo "$pod is not ready:"
  k get "$pod" -o 'jsonpath={range .status.conditions[?(@.type=="PodScheduled")]}{.message}{"\n"}{end}{range .status.containerStatuses[*]}{.state.waiting.reason}{" "}{.state.waiting.message}{"\n"}{.state.terminated.message}{"\n"}{.lastState.terminated.reason}{" "}{.lastState.terminated.message}{"\n"}{end}' |
    sed '/^ *$/d; s/^/  /'
  [ "$(k get "$pod" -o 'jsonpath={.spec.containers[0].name}{.status.containerStatuses[0].state.running.startedAt}' | cut -c1-3)" != app ] ||
    k exec "$pod" -- bosun status 2>/dev/null | sed -n '1s/^/  /p'
done
