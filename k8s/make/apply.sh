#!/bin/sh
# make k8s-apply: applies the manifests, and waits until the least number of pods serves the new revision, for WAIT seconds (300).
set -eu
target=k8s-apply
. "$(dirname "$0")/common.sh"
need_cluster
choose

# kubectl takes back what it has set: replicas that the manifests have left to an autoscaler would become 1. It is to forget that it has.
kubectl create $from --dry-run=client -o 'jsonpath={.kind} {.metadata.namespace} {.metadata.name} {.spec.replicas}{"\n"}' |
  while read -r kind namespace name replicas; do
    [ "$kind" = Deployment ] && [ -z "$replicas" ] || continue
    last=$(kubectl -n "$namespace" get deployment "$name" --ignore-not-found -o 'jsonpath={.metadata.annotations.kubectl\.kubernetes\.io/last-applied-configuration}')
    case $last in
    *'"replicas":'*)
      kubectl -n "$namespace" annotate deployment "$name" --overwrite "kubectl.kubernetes.io/last-applied-configuration=$(printf %s "$last" | sed 's/"replicas":[0-9]*,//')" ;;
    esac
  done
kubectl apply $from
find_app

k() { kubectl -n "$namespace" "$@"; }
# An autoscaler's minimum, which it needs up to 15 s to ask for, or the replicas of the Deployment.
least=$(k get hpa -o "jsonpath={range .items[?(@.spec.scaleTargetRef.name==\"$deployment\")]}{.spec.minReplicas}{end}")
[ -n "$least" ] || least=$(k get deployment "$deployment" -o 'jsonpath={.spec.replicas}')

# The reasons, where they have changed.
explain() {
  why=$(./make/reasons.sh "$namespace" "$deployment" "$instance")
  [ "$why" = "$explained" ] || echo "$why"
  explained=$why
}
fail() { explain; refuse "$1"; }
shown='' explained='' now=$(date +%s)
until=$((now + ${WAIT:-300})) changed=$now
while :; do
  set -- $(k get deployment "$deployment" -o 'jsonpath=0{.metadata.generation} 0{.status.observedGeneration} 0{.status.replicas} 0{.status.updatedReplicas} 0{.status.availableReplicas} {.status.conditions[?(@.type=="Progressing")].reason}')
  serving=${5#0} # an absent number is printed as nothing
  says="$target: ${serving:-0} of $least pods serve"
  now=$(date +%s)
  [ "$says" = "$shown" ] || { echo "$says"; changed=$now; }
  shown=$says
  if [ "$1" = "$2" ] && [ "$3" -eq "$4" ] && [ "$5" -ge "$least" ]; then exit 0; fi
  [ "$1" != "$2" ] || [ "${6:-}" != ProgressDeadlineExceeded ] || fail 'the new pods do not become ready, see above'
  [ "$now" -lt "$until" ] || fail "$least pods must serve within ${WAIT:-300} s, see above"
  [ $((now - changed)) -lt 15 ] || { explain; changed=$now; } # a start takes a few seconds
  sleep 2
done
