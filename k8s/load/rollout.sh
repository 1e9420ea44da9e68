#!/bin/sh
# make k8s-rollout: replaces the app's pods in the current cluster one after another while a Job asks them (load.yaml), and prints what
# the Job has counted. Exit code 0 if nothing failed.
set -eu
cd "$(dirname "$0")"
k() { kubectl -n koa-bosun "$@"; }
refuse() { echo "k8s-rollout: $1" >&2; exit 1; }

command -v kubectl >/dev/null || refuse 'kubectl is not installed'
why=$(kubectl version 2>&1 >/dev/null) || refuse "no cluster answers kubectl: $(echo "$why" | tail -n 1)"
k get deployment app >/dev/null || refuse 'there must be a Deployment app in the namespace koa-bosun: make k8s-apply comes first'
k rollout status deployment/app --timeout 120s

end() { k delete -f load.yaml --ignore-not-found >/dev/null; }
end
trap end EXIT
k apply -f load.yaml
k wait --for=jsonpath='{.status.ready}'=1 job/load --timeout 120s # the pod itself may not be there yet
tries=0
until k logs job/load | grep -q '^rollout:'; do # its warm-up is over
  tries=$((tries + 1))
  [ $tries -lt 30 ] || { k logs job/load; refuse 'the Job load must have begun within 30 s'; }
  sleep 1
done

old=$(k get pods -l app.kubernetes.io/component=app,app.kubernetes.io/instance=koa-bosun -o name)
k rollout restart deployment/app
k rollout status deployment/app --timeout 900s
# A rollout does not wait for pods that leave, and they still serve.
for pod in $old; do k wait --for=delete "$pod" --timeout 120s || ! k get "$pod" >/dev/null 2>&1; done

k exec job/load -- sh -c 'kill -INT 1' # as Ctrl-C: it reports, and exits with 1 where anything has failed
k logs -f job/load --tail 20
for _ in 1 2 3 4 5 6 7 8 9 10; do
  ended=$(k get job load -o 'jsonpath={.status.succeeded}/{.status.failed}')
  case $ended in
    1/*) exit 0 ;;
    /1) refuse 'requests failed, see above' ;;
  esac
  sleep 1
done
refuse "the Job load must have ended, got succeeded/failed \"$ended\""
