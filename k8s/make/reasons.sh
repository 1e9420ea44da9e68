#!/bin/sh
# Why the pods of an app do not serve: what the Deployment, the volumes, the scheduler, the containers, and the kit in them report, in
# their own words. Nothing is printed where all pods are ready. No text of the app: that is in its log.
# Usage: k8s/make/reasons.sh NAMESPACE DEPLOYMENT INSTANCE (the label app.kubernetes.io/instance)
set -u
[ $# -eq 3 ] || { echo "usage: $0 NAMESPACE DEPLOYMENT INSTANCE" >&2; exit 64; }
namespace=$1 deployment=$2 instance=$3
k() { kubectl -n "$namespace" "$@" 2>/dev/null; }
of_app() { k get "$1" -l "app.kubernetes.io/instance=$instance" -o "go-template=$2"; }
indented() { sed '/^ *$/d; s/^/  /'; }
# The last three events of an object, each once.
events() { k get events --field-selector "involvedObject.name=$1" --sort-by=.lastTimestamp -o "jsonpath={range .items[$2]}{.reason}: {.message}{\"\\n\"}{end}" | uniq | tail -n 3; }

# Pods that are forbidden, or above a quota, are not made at all.
k get deployment "$deployment" -o 'jsonpath={range .status.conditions[?(@.type=="ReplicaFailure")]}{.message}{end}' | sed "s|^.|deployment/$deployment makes no pods: &|"

for claim in $(of_app pvc '{{range .items}}{{if ne .status.phase "Bound"}}{{.metadata.name}} {{end}}{{end}}'); do
  echo "pvc/$claim is not bound:"
  events "$claim" '*' | indented
  [ -n "$(k get storageclass -o name)" ] || echo '  the cluster has no StorageClass: create one, or use a Redis elsewhere (components/external-redis)'
done

ended='{{define "ended"}}ended with exit code {{.exitCode}} ({{.reason}}){{with .message}}: {{.}}{{end}}
{{end}}'
status='{{define "status"}}{{range .}}{{$name := .name}}{{with .state.waiting}}container {{$name}} waits: {{.reason}}{{if and .message (ne .reason "CrashLoopBackOff")}}: {{.message}}{{end}}
{{end}}{{with .state.terminated}}container {{$name}} {{template "ended" .}}{{end}}{{with .lastState.terminated}}container {{$name}} {{template "ended" .}}{{end}}{{end}}{{end}}'
pod_template="$ended$status"'{{range .status.conditions}}{{if and (eq .type "PodScheduled") (ne .status "True")}}not scheduled: {{.message}}
{{end}}{{end}}{{with .status.message}}{{.}}
{{end}}{{with .status.initContainerStatuses}}{{template "status" .}}{{end}}{{with .status.containerStatuses}}{{template "status" .}}{{end}}'
# A pod that is not scheduled has no condition Ready.
waiting='{{range .items}}{{if and (not .metadata.deletionTimestamp) (ne .status.phase "Succeeded")}}{{$ready := false}}{{range .status.conditions}}{{if and (eq .type "Ready") (eq .status "True")}}{{$ready = true}}{{end}}{{end}}{{if not $ready}}{{.metadata.name}} {{end}}{{end}}{{end}}'

# What /readyz answers, from a container that runs; by the API server where the image has no bosun on its PATH.
readiness() {
  { k exec "$1" -c app -- bosun status --json ||
    k get --raw "/api/v1/namespaces/$namespace/pods/$1:9090/proxy/status" --request-timeout=3s; } |
    # The first state is that of the pod, those of the workers follow.
    grep -oE '"state":"[a-z]*"(,"reason":"([^"\\]|\\.)*")?' | head -n 1 |
    sed 's/^"state":"\([a-z]*\)"/\1: /; s/,"reason":"\(.*\)"$/\1/; s/^\([a-z]*\): \1/\1/; s/: $//; s/\\"/"/g'
}

for pod in $(of_app pods "$waiting"); do
  echo "pod/$pod is not ready:"
  state=$(k get pod "$pod" -o "go-template=$pod_template")
  echo "$state" | indented
  case $state in
    *'exit code 0 (Completed)'*) echo "  a server must not exit by itself: does this image run the kit? Its command must be bosun start" ;;
    *'(OOMKilled)'*) echo "  the memory limit is too small: bosun sizing explains what fits into it" ;;
  esac
  case $(k get pod "$pod" -o 'jsonpath={.status.containerStatuses[?(@.name=="app")].state.running.startedAt}') in
    ?*) said=$(readiness "$pod") ;;
    *) said='' ;;
  esac
  echo "$said" | indented
  case $state$said in
    '' | ready) events "$pod" '?(@.type=="Warning")' | indented ;;
  esac
done
