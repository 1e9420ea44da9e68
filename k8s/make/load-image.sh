#!/bin/sh
# make k8s-load: puts IMAGE of the Docker engine into the cluster of CONTEXT, or of the current context. IMPORT is a command for any other
# cluster; it gets the image, as docker save writes it, on its standard input.
set -eu
target=k8s-load
refuse() { echo "$target: $1" >&2; exit 1; }
[ -n "${IMPORT:-}" ] && { docker save "$IMAGE" | sh -c "$IMPORT"; exit; }
context=${CONTEXT:-$(kubectl config current-context 2>/dev/null)} || refuse 'there is no current context: name one by CONTEXT'
case $context in
  kind-*) exec kind load docker-image "$IMAGE" --name "${context#kind-}" ;;
  minikube) exec minikube image load "$IMAGE" ;;
  k3d-*) exec k3d image import "$IMAGE" --cluster "${context#k3d-}" ;;
  docker-desktop | orbstack | colima | rancher-desktop) echo "$target: $context runs on the images of the Docker engine, nothing to do" ;;
  *) refuse "the context must be one of kind, minikube, k3d or a desktop's, got \"$context\". For another cluster:
  push the image to a registry that it pulls from, and name it in the overlay (make k8s-new IMAGE=registry/shop:2.0.0),
  or name a context by CONTEXT=…, or a command that reads the image from its standard input:
  IMPORT='ssh NODE ctr --namespace k8s.io images import -' make k8s-load IMAGE=$IMAGE" ;;
esac
