/**
 * A pod of a manifest as a container: the user, the root file system, the environment, the command and the memory that the manifest
 * gives it. Its volumes are owned as Kubernetes owns them for its fsGroup.
 */
import type { StartedNetwork } from 'testcontainers';
import { at, containersOf, find, listAt, type Manifest } from '../k8s/manifests.ts';
import { App } from './app.ts';
import { atEnd, docker, imageId, removeContainerAtEnd, uniqueName } from './engine.ts';

export interface PodOptions {
  network: StartedNetwork;
  /** The name of its Service. */
  alias?: string;
  /** By name and key, as `redis.password`. */
  secrets?: Record<string, string>;
  /** Overrides the manifest. */
  env?: Record<string, string>;
}

/** Starts the only container of a workload's pod. Its ConfigMap must be one of `manifests`. */
export async function runPod(manifests: readonly Manifest[], workload: Manifest, options: PodOptions): Promise<App> {
  const { network, alias, secrets = {}, env = {} } = options;
  const pod = at(workload, 'spec.template.spec');
  const [container = {}] = containersOf(workload);
  const security = at(pod, 'securityContext');
  const group = at(security, 'fsGroup');
  const image = String(container.image);
  const variables = { ...environmentOf(container, manifests, secrets), ...env };
  const claims: string[] = [];
  for (const { metadata } of listAt(workload, 'spec.volumeClaimTemplates')) {
    claims.push(`--volume=${await volumeFor(image, group)}:${pathOf(container, at(metadata, 'name'))}:nocopy`);
  }
  const name = uniqueName();
  removeContainerAtEnd(name); // before its volumes
  return App.of(
    await docker([
      ...['run', '--detach', '--no-healthcheck', '--name', name, '--network', network.getName()],
      ...(alias === undefined ? [] : ['--network-alias', alias]),
      ...['--user', `${at(security, 'runAsUser')}:${at(security, 'runAsGroup')}`],
      ...(at(container, 'securityContext.readOnlyRootFilesystem') === true ? ['--read-only'] : []),
      ...listAt(container, 'securityContext.capabilities.drop').map(capability => `--cap-drop=${capability}`),
      ...(at(container, 'securityContext.allowPrivilegeEscalation') === false ? ['--security-opt=no-new-privileges:true'] : []),
      ...['--memory', String(at(container, 'resources.limits.memory')).replace('Mi', 'm')],
      ...listAt(pod, 'volumes').map(volume => `--tmpfs=${pathOf(container, volume.name)}`),
      ...claims,
      ...Object.entries(variables).map(([key, value]) => `--env=${key}=${value}`),
      image.startsWith('koa-bosun:') ? await imageId() : image,
      ...listAt(container, 'command').map(String),
    ]),
  );
}

const pathOf = (container: Manifest, volume: unknown) =>
  listAt(container, 'volumeMounts').find(({ name }) => name === volume)?.mountPath;

/** An empty volume, owned by root and the group. */
async function volumeFor(image: string, group: unknown): Promise<string> {
  const name = uniqueName();
  atEnd(async () => void (await docker(['volume', 'rm', name])));
  const own = `chown root:${group} /volume && chmod 2775 /volume`;
  await docker(['run', '--rm', '--user', '0', '--volume', `${name}:/volume`, image, 'sh', '-c', own]);
  return name;
}

function environmentOf(container: Manifest, manifests: readonly Manifest[], secrets: Record<string, string>) {
  const maps = listAt(container, 'envFrom').map(source => find(manifests, 'ConfigMap', String(at(source, 'configMapRef.name'))));
  const given: Record<string, unknown> = Object.assign({}, ...maps.map(map => map?.data));
  for (const variable of listAt(container, 'env')) {
    const secret = at(variable, 'valueFrom.secretKeyRef') as Manifest | undefined;
    const value = secret === undefined ? variable.value : secrets[`${secret.name}.${secret.key}`];
    if (value !== undefined) given[String(variable.name)] = value;
  }
  return given;
}
