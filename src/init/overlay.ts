/**
 * A kustomize overlay over k8s/base for one app: the texts of its files, from a few settings. It reads and writes nothing;
 * `make k8s-new` and `bosun init` do.
 */
import { NO_NAME } from '../config/service-name.ts';

export interface OverlaySettings {
  /** Prefix of every name, and the app's instance label: two apps in one namespace have different ones. */
  name: string;
  /** With a tag or a digest. */
  image: string;
  /** It must exist, unless `components` has `namespace`. */
  namespace: string;
  /** The app's port, if it is not 3000. */
  port?: number;
  /** Folders of k8s/components. Those that change what others add are written last. Default: redis and network-policy. */
  components?: readonly string[];
  /** Of an Ingress or an HTTPRoute; without one they take every host. */
  host?: string;
  /** The way from the overlay to the folder that holds base and components. Default: `../..`. */
  k8s?: string;
}

const BASE_PORT = 3000;
/** In a JSON patch of the Deployment. */
const CONTAINER = '/spec/template/spec/containers/0';
const MAX_WITH_SENTINEL = 37;
const DEFAULT_COMPONENTS = ['redis', 'network-policy'];
/** They patch objects of other components: before those they would find none, and kustomize says nothing. */
const PATCHES_OTHERS = ['external-redis', 'ipv6', 'labels-0.1.0'];
/** Each has a Redis for the app. */
export const REDIS_COMPONENTS: readonly string[] = ['redis', 'redis-sentinel', 'external-redis'];
/** Of each, an overlay can have one. */
const ALTERNATIVES = [REDIS_COMPONENTS, ['hpa', 'hpa-utilization', 'keda']];

/**
 * What is wrong with the settings, one sentence each; empty if nothing is. `known` are the folders of k8s/components.
 * The rules for names are those of Kubernetes (DNS labels); 40 characters leave room for what follows the prefix. The
 * pods of a StatefulSet have a label with its name and 11 characters more, of at most 63: with -redis-sentinel, 37 are left.
 */
export function overlayProblems(settings: OverlaySettings, known: readonly string[]): string[] {
  const { name, image, namespace, port = BASE_PORT, components = [], host } = settings;
  const found: string[] = [];
  const expect = (isValid: boolean, variable: string, expected: string, got: unknown) => {
    if (!isValid) found.push(`${variable} must be ${expected}, got ${JSON.stringify(got)}`);
  };
  expect(
    /^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$/.test(name),
    'NAME',
    'at most 40 lower-case letters, digits and hyphens, beginning with a letter and not ending with a hyphen',
    name,
  );
  expect(
    /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(namespace),
    'NAMESPACE',
    'at most 63 lower-case letters, digits and hyphens, not beginning or ending with a hyphen',
    namespace,
  );
  if (name === NO_NAME) found.push(`NAME is the pods' SERVICE_NAME, too, and that must differ from "${NO_NAME}"`);
  if (components.includes('redis-sentinel') && name.length > MAX_WITH_SENTINEL)
    found.push(`NAME must have at most ${MAX_WITH_SENTINEL} characters with the component redis-sentinel, got ${name.length}`);
  const reference = imageOf(image);
  expect(reference !== undefined, 'IMAGE', 'a name with a tag or a digest, such as registry/shop:2.0.0', image);
  if (reference?.tag === 'latest') found.push('IMAGE must have a tag that stays with its image, got "latest"');
  expect(Number.isInteger(port) && port >= 1024 && port <= 65_535, 'PORT', 'a whole number from 1024 to 65535', port);
  if (port === 9090) found.push('PORT must differ from that of the admin port, got 9090 for both');
  for (const component of components) expect(known.includes(component), 'COMPONENTS', `among ${known.join(', ')}`, component);
  for (const one of ALTERNATIVES) {
    const chosen = one.filter(component => components.includes(component));
    if (chosen.length > 1) found.push(`COMPONENTS may have only one of ${one.join(', ')}, got ${chosen.join(' and ')}`);
  }
  if (host !== undefined)
    expect(
      /^(\*\.)?([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(host) && host.length <= 253,
      'HOST',
      'a host name such as shop.example.com',
      host,
    );
  return found;
}

interface ImageReference {
  name: string;
  tag?: string;
  digest?: string;
}

/** Undefined without a tag and a digest, or if it is no reference. A colon before the last slash is that of a registry's port. */
function imageOf(image: string): ImageReference | undefined {
  const part = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
  const domain = '[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?';
  const shape = new RegExp(
    `^(?<name>(?:${domain}/)?${part}(?:/${part})*)(?::(?<tag>\\w[\\w.-]{0,127}))?(?:@(?<digest>sha256:[0-9a-f]{64}))?$`,
  );
  const { name, tag, digest } = shape.exec(image)?.groups ?? {};
  if (name === undefined || (tag === undefined && digest === undefined)) return undefined;
  return { name, ...(tag !== undefined && { tag }), ...(digest !== undefined && { digest }) };
}

/** The texts of the overlay's files by their names. The settings have no problems. */
export function overlayFiles(settings: OverlaySettings): Record<string, string> {
  const chosen = settings.components ?? DEFAULT_COMPONENTS;
  const components = chosen.toSorted((a, b) => Number(PATCHES_OTHERS.includes(a)) - Number(PATCHES_OTHERS.includes(b)));
  return {
    'kustomization.yaml': kustomization(settings, components),
    ...(components.includes('network-policy') && { 'network.yaml': networkPolicies(settings) }),
  };
}

function kustomization(
  { name, image, namespace, port, host, k8s = '../..' }: OverlaySettings,
  components: readonly string[],
): string {
  const isPolicy = components.includes('network-policy');
  // With an image volume the kit's image stays, and the app's image is the volume.
  const replaced = components.includes('image-volume') ? 'app-files' : 'koa-bosun';
  const { name: newName, tag, digest } = imageOf(image) ?? { name: image };
  const version = digest === undefined ? `newTag: "${tag}"` : `digest: ${digest}`;
  const hasPort = port !== undefined && port !== BASE_PORT;
  const literals = [
    'LOG_LEVEL=info',
    ...(hasPort ? [`PORT=${port}`] : []),
    // Otherwise a write that the primary has acknowledged may be lost with it, though there are replicas.
    ...(components.includes('redis-sentinel') ? ['SESSION_WAIT_REPLICAS=1'] : []),
  ];
  const lines = [
    `# ${name} in the namespace ${namespace}: make k8s-apply NAME=${name} applies it, make k8s-delete NAME=${name} deletes it, but not the namespace.`,
    'apiVersion: kustomize.config.k8s.io/v1beta1',
    'kind: Kustomization',
    `namespace: ${JSON.stringify(namespace)}`,
    `namePrefix: ${name}-`,
    `resources: [${k8s}/base${isPolicy ? ', network.yaml' : ''}]`,
    `components: [${components.map(component => `${k8s}/components/${component}`).join(', ')}]`,
    `images: [{ name: ${replaced}, newName: "${newName}", ${version} }]`,
    `labels: [{ pairs: { app.kubernetes.io/instance: "${name}" }, includeSelectors: true }]`,
    'configMapGenerator:',
    `  - { name: app, behavior: merge, literals: [${literals.join(', ')}] }`,
    'patches:',
    '  - target: { kind: Deployment, name: app }',
    '    patch: |',
    `      - { op: add, path: /metadata/labels/app.kubernetes.io~1name, value: "${name}" }`,
    `      - { op: add, path: /spec/template/metadata/labels/app.kubernetes.io~1name, value: "${name}" }`,
    ...(hasPort ? [`      - { op: replace, path: ${CONTAINER}/ports/0/containerPort, value: ${port} }`] : []),
    '      # A variable from a Secret of yours, and another size:',
    `      # - { op: add, path: ${CONTAINER}/env/-, value: { name: DATABASE_URL, valueFrom: { secretKeyRef: { name: database, key: url } } } }`,
    `      # - { op: replace, path: ${CONTAINER}/resources/requests/cpu, value: 500m }`,
    ...(host === undefined ? [] : hostPatches(host, components)),
  ];
  return `${lines.join('\n')}\n`;
}

/** Where each of these components has its host. */
const HOST_PATHS: Record<string, [kind: string, op: string]> = {
  ingress: ['Ingress', `{ op: add, path: /spec/rules/0/host, value: HOST }`],
  httproute: ['HTTPRoute', `{ op: add, path: /spec/hostnames, value: [HOST] }`],
};

const hostPatches = (host: string, components: readonly string[]): string[] =>
  components.flatMap(component => {
    const [kind, operation] = HOST_PATHS[component] ?? [];
    if (kind === undefined || operation === undefined) return [];
    return [`  - target: { kind: ${kind} }`, '    patch: |', `      - ${operation.replace('HOST', JSON.stringify(host))}`];
  });

/** Two policies that the user narrows or widens: they add to that of the component. */
function networkPolicies({ name }: OverlaySettings): string {
  const pods = `podSelector: { matchLabels: { app.kubernetes.io/component: app, app.kubernetes.io/instance: "${name}" } }`;
  return `# Beyond the component network-policy, which lets HTTP in, and Redis and DNS out. Name pods by matchExpressions: in matchLabels, kustomize
# adds this app's instance label.
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: app-admin }
spec:
  ${pods}
  policyTypes: [Ingress]
  ingress:
    # adminFrom: who may read the admin port, such as Prometheus. Nobody: remove this policy. Everybody: an empty list.
    - from:
        - namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: monitoring } }
      ports: [{ port: admin, protocol: TCP }]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: app-egress }
spec:
  ${pods}
  policyTypes: [Egress]
  # extraEgress: what the app may connect to, such as its database and HTTPS. Without a rule the connections time out.
  # egress:
  #   - to: [{ ipBlock: { cidr: 10.0.0.0/8 } }]
  #     ports: [{ port: 5432, protocol: TCP }]
  #   - to: [{ ipBlock: { cidr: 0.0.0.0/0, except: [10.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16] } }]
  #     ports: [{ port: 443, protocol: TCP }]
`;
}
