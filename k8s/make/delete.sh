#!/bin/sh
# k8s-delete: deletes what k8s-apply has applied, but never a namespace, and no claim of a volume: what others have made there
# stays, and so do the sessions.
set -eu
target=k8s-delete
. "$(dirname "$0")/common.sh"
need_cluster
choose
objects=$(manifests)
namespace=$(echo "$objects" | sed -n 's/^  namespace: "\{0,1\}\([a-z0-9-]*\)"\{0,1\}$/\1/p' | head -n 1)
# The labels of the ConfigMap: those of earlier applies have other hashes in their names.
instance=$(echo "$objects" | sed -n 's/^    app.kubernetes.io\/instance: "\{0,1\}\([a-z0-9-]*\)"\{0,1\}$/\1/p' | head -n 1)
[ -n "$namespace" ] && [ -n "$instance" ] || refuse 'the manifests must name a namespace and the label app.kubernetes.io/instance'

echo "$objects" | without_namespaces | kubectl delete --ignore-not-found -f -
kubectl -n "$namespace" delete configmaps -l "app.kubernetes.io/instance=$instance,app.kubernetes.io/component in (app,sessions)"
claims=$(kubectl -n "$namespace" get pvc -l "app.kubernetes.io/instance=$instance" -o name)
echo "$target: kept the namespace $namespace"
for claim in $claims; do echo "$target: kept the sessions in $claim (kubectl -n $namespace delete $claim)"; done
