# For the scripts of this folder, which name themselves in $target. Where $NAME is set they are about the overlay k8s/overlays/$NAME, else
# about what kubectl apply -f k8s applies.
cd "$(dirname "$0")/.."
refuse() { echo "$target: $1" >&2; exit 1; }

# One sentence where kubectl or the cluster is not there.
need_cluster() {
  command -v kubectl >/dev/null || refuse 'kubectl is not installed'
  why=$(kubectl version 2>&1 >/dev/null) || refuse "no cluster answers kubectl: $(echo "$why" | tail -n 1)"
}

# Sets $from to the options that name the manifests.
choose() {
  from='-f .'
  [ -n "${NAME:-}" ] || return 0
  [ -f "overlays/$NAME/kustomization.yaml" ] || refuse "there must be an overlay k8s/overlays/$NAME: make k8s-new NAME=$NAME IMAGE=… NAMESPACE=… writes it"
  from="-k overlays/$NAME"
}

# The manifests as one text.
manifests() {
  if [ -n "${NAME:-}" ]; then kubectl kustomize "overlays/$NAME"; else for file in [0-9]*.yaml; do cat "$file"; echo ---; done; fi
}

# The documents of standard input but those of a namespace.
without_namespaces() {
  awk '
    /^---/ { if (!isNamespace) printf "%s", document; document = ""; isNamespace = 0 }
    /^kind: Namespace$/ { isNamespace = 1 }
    { document = document $0 "\n" }
    END { if (!isNamespace) printf "%s", document }'
}

# Sets $namespace, $deployment, $instance: of the manifests, or of NAMESPACE and DEPLOYMENT where they are given.
find_app() {
  namespace=${NAMESPACE:-} deployment=${DEPLOYMENT:-}
  if [ -z "$namespace$deployment" ]; then
    choose
    # Of the app alone: an overlay may have other Deployments.
    found=$(kubectl get $from --ignore-not-found -o 'jsonpath={range .items[?(@.metadata.labels.app\.kubernetes\.io/component=="app")]}{.kind}/{.metadata.namespace}/{.metadata.name}{"\n"}{end}' | sed -n 's|^Deployment/||p' | head -n 1)
    [ -n "$found" ] || refuse 'there must be a Deployment of these manifests in the cluster: make k8s-apply comes first'
    namespace=${found%/*} deployment=${found#*/}
  fi
  namespace=${namespace:-koa-bosun} deployment=${deployment:-app}
  instance=$(kubectl -n "$namespace" get deployment "$deployment" -o 'jsonpath={.spec.template.metadata.labels.app\.kubernetes\.io/instance}') ||
    refuse "there must be a Deployment $deployment in the namespace $namespace (NAMESPACE, DEPLOYMENT)"
}
