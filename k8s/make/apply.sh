#!/bin/sh
# k8s-apply: applies the manifests, and waits until the least number of pods serves the new revision, for WAIT seconds (300).
set -eu
target=k8s-apply
. "$(dirname "$0")/common.sh"
need_cluster
choose

objects=$(kubectl create $from --dry-run=client -o 'jsonpath={.kind} {.metadata.namespace} {.metadata.name} {.spec.replicas}{"\n"}') || :
# Else kubectl repeats for each object that it is not found. Where nobody may read namespaces, kubectl apply decides.
for namespace in $(echo "$objects" | cut -d ' ' -f 2 | sort -u); do
  ! echo "$objects" | grep -q "^Namespace  $namespace " || continue
  found=$(kubectl get namespace "$namespace" --ignore-not-found -o name 2>/dev/null) || continue
  [ -n "$found" ] || refuse "there must be a namespace $namespace: kubectl create namespace $namespace"
done

# kubectl removes a field that it has set before and that the manifests no longer have: replicas that are now an autoscaler's would become 1.
# So they are removed from its record of what it has set.
echo "$objects" |
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
# Of the ReplicaSet of a revision: the pods that serve it.
serving_of() {
  k get replicasets -l "app.kubernetes.io/instance=$instance" -o "jsonpath={range .items[?(@.metadata.annotations.deployment\.kubernetes\.io/revision==\"$1\")]}{.metadata.ownerReferences[0].name}={.status.availableReplicas}{\"\\n\"}{end}" |
    sed -n "s/^$deployment=//p"
}
shown='' explained='' now=$(date +%s)
until=$((now + ${WAIT:-300})) changed=$now
while :; do
  # An absent number is printed as nothing.
  set -- $(k get deployment "$deployment" -o 'jsonpath=0{.metadata.generation} 0{.status.observedGeneration} 0{.status.replicas} 0{.status.updatedReplicas} 0{.status.availableReplicas} ={.metadata.annotations.deployment\.kubernetes\.io/revision} {.status.conditions[?(@.type=="Progressing")].reason}')
  now=$(date +%s)
  if [ "$1" = "$2" ]; then # else the revision is the one before
    new=$(serving_of "${6#=}") all=${5#0}
    old=$((${all:-0} - ${new:=0}))
    says="$target: $new of $least pods serve"
    [ "$old" -le 0 ] || says="$target: $new of $least new pods serve; old pods still serving: $old"
    [ "$says" = "$shown" ] || { echo "$says"; changed=$now; }
    shown=$says
    if [ "$3" -eq "$4" ] && [ "$5" -ge "$least" ]; then exit 0; fi
    [ "${7:-}" != ProgressDeadlineExceeded ] || fail 'the new pods do not become ready, see above'
  fi
  [ "$now" -lt "$until" ] || fail "the rollout must end within ${WAIT:-300} s, see above"
  [ $((now - changed)) -lt 15 ] || { explain; changed=$now; } # a start takes a few seconds
  sleep 2
done
