#!/bin/sh
# k8s-rollout: replaces the app's pods in the current cluster one after another while a Job asks them (load.yaml), and prints what
# the Job has counted. Exit code 0 if nothing failed. The app is that of k8s/, of the overlay NAME, or of NAMESPACE and DEPLOYMENT;
# SERVICE has the Deployment's name otherwise. LOAD_IMAGE is an image of the kit.
set -eu
target=k8s-rollout
. "$(dirname "$0")/common.sh"
need_cluster
find_app
k() { kubectl -n "$namespace" "$@"; }
k rollout status "deployment/$deployment" --timeout 120s

job=$deployment-load service=${SERVICE:-$deployment}
account=$(k get deployment "$deployment" -o 'jsonpath={.spec.template.spec.serviceAccountName}')
load() {
  sed -e "s|namespace: koa-bosun|namespace: $namespace|" -e "s|instance: koa-bosun|instance: $instance|" -e "s|name: load\$|name: $job|" \
    -e "s|http://app|http://$service|" -e "s|serviceAccountName: app|serviceAccountName: ${account:-default}|" -e "s|image: koa-bosun:.*|image: ${LOAD_IMAGE:-koa-bosun:0.1.0}|" load/load.yaml
}
end() { load | k delete -f - --ignore-not-found >/dev/null; }
end
trap end EXIT
load | k apply -f -
k wait --for=jsonpath='{.status.ready}'=1 "job/$job" --timeout 120s # the pod itself may not be there yet
tries=0
until k logs "job/$job" | grep -q '^rollout:'; do # its warm-up is over
  tries=$((tries + 1))
  [ $tries -lt 30 ] || { k logs "job/$job"; refuse "the Job $job must have begun within 30 s"; }
  sleep 1
done

old=$(k get pods -l "app.kubernetes.io/component=app,app.kubernetes.io/instance=$instance" -o name)
k rollout restart "deployment/$deployment"
k rollout status "deployment/$deployment" --timeout 900s
# A rollout does not wait for pods that leave, and they still serve.
for pod in $old; do k wait --for=delete "$pod" --timeout 120s || ! k get "$pod" >/dev/null 2>&1; done

k exec "job/$job" -- sh -c 'kill -INT 1' # as Ctrl-C: it reports, and exits with 1 where anything has failed
k logs -f "job/$job" --tail 20
for _ in 1 2 3 4 5 6 7 8 9 10; do
  ended=$(k get job "$job" -o 'jsonpath={.status.succeeded}/{.status.failed}')
  case $ended in
    1/*) exit 0 ;;
    /1) refuse 'requests failed, see above' ;;
  esac
  sleep 1
done
refuse "the Job $job must have ended, got succeeded/failed \"$ended\""
