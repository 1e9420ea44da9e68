/**
 * Several Redis servers that know each other: a Cluster, or a master with a replica and Sentinels. All in one container, which makes them no less
 * real and a start of two seconds; each has the same port inside and outside, so that the addresses that they announce are valid everywhere.
 * They speak TLS only, and know one user.
 */
import { join } from 'node:path';
import { type ContainerRuntimeClient, Wait } from 'testcontainers';
import { freePort } from '../free-port.ts';
import { ROOT } from '../process/kit.ts';
import { until } from '../until.ts';
import { AppContainer } from './app.ts';
import { engine, removeContainerAtEnd, uniqueName } from './engine.ts';
import { REDIS_IMAGE } from './redis.ts';

const TLS = join(ROOT, 'test', 'fixtures', 'tls');
const ADMIN = 'the-password-of-the-servers';
/** Of the Sentinels themselves. */
export const SENTINEL_PASSWORD = 'the-password-of-the-sentinels';
const START_TIMEOUT_MS = 30_000;

/** How the kit gets in. */
export const LOGIN = {
  REDIS_TLS: 'true',
  REDIS_CA_FILE: join(TLS, 'ca.crt'),
  REDIS_USERNAME: 'app',
  REDIS_PASSWORD: 'the-password-of-the-app',
};

const SERVER = [
  '--port 0 --tls-replication yes --tls-auth-clients no',
  '--tls-cert-file /tls/redis.crt --tls-key-file /tls/redis.key --tls-ca-cert-file /tls/ca.crt',
  `--requirepass ${ADMIN} --masterauth ${ADMIN} --save "" --appendonly no`,
  `--user app on '>${LOGIN.REDIS_PASSWORD}' '~*' '&*' +@all`,
].join(' ');

export class RedisGroup {
  readonly ports: readonly number[];
  readonly #client: ContainerRuntimeClient;
  readonly #id: string;
  readonly #sentinels: ReadonlySet<number>;

  /** Three masters, a replica each. */
  static async cluster(): Promise<RedisGroup> {
    const ports = await freePorts(6);
    const group = await RedisGroup.#start(
      ports,
      ports.map(
        port =>
          `redis-server ${SERVER} --tls-port ${port} --dir /tmp --cluster-enabled yes --tls-cluster yes --cluster-node-timeout 1000 --cluster-config-file nodes-${port}.conf --cluster-announce-ip 127.0.0.1`,
      ),
    );
    const nodes = ports.map(port => `127.0.0.1:${port}`);
    await group.command(ports[0] ?? 0, '--cluster', 'create', ...nodes, '--cluster-replicas', '1', '--cluster-yes');
    await until(
      async () => {
        const states = await Promise.all(ports.map(port => group.command(port, 'CLUSTER', 'INFO')));
        const nodesOf = await group.command(ports[0] ?? 0, 'CLUSTER', 'NODES');
        return states.every(state => /cluster_state:ok/.test(state)) && nodesOf.match(/ slave /g)?.length === 3
          ? true
          : undefined;
      },
      () => 'the cluster does not come up',
      START_TIMEOUT_MS,
    );
    return group;
  }

  /** A master, its replica, and three Sentinels, which are the last three ports. */
  static async sentinels(name: string): Promise<RedisGroup> {
    const ports = await freePorts(5);
    const [master = 0, replica = 0, ...sentinels] = ports;
    const servers = [
      `redis-server ${SERVER} --tls-port ${master}`,
      `redis-server ${SERVER} --tls-port ${replica} --replicaof 127.0.0.1 ${master}`,
    ];
    const sentinelServers = sentinels.map(port => {
      const file = `/tmp/sentinel-${port}.conf`;
      const lines = [
        'port 0',
        `tls-port ${port}`,
        'tls-replication yes',
        'tls-auth-clients no',
        'tls-cert-file /tls/redis.crt',
        'tls-key-file /tls/redis.key',
        'tls-ca-cert-file /tls/ca.crt',
        `requirepass ${SENTINEL_PASSWORD}`,
        `sentinel monitor ${name} 127.0.0.1 ${master} 2`,
        `sentinel auth-pass ${name} ${ADMIN}`,
        `sentinel down-after-milliseconds ${name} 1000`,
        `sentinel failover-timeout ${name} 3000`,
        'sentinel announce-ip 127.0.0.1',
      ];
      return `printf '%s\\n' ${lines.map(line => `'${line}'`).join(' ')} > ${file}; redis-server ${file} --sentinel`;
    });
    const group = await RedisGroup.#start(ports, [...servers, ...sentinelServers], sentinels);
    await until(
      async () => {
        const found = await Promise.all(sentinels.map(port => group.command(port, 'SENTINEL', 'CKQUORUM', name).catch(String)));
        // They query the master for its replicas every 10 s, and fail over only to known ones.
        const known = await Promise.all(sentinels.map(port => group.command(port, 'SENTINEL', 'REPLICAS', name)));
        const areReplicasKnown = known.every(
          text => text.includes(`127.0.0.1:${replica}`) && /master-link-status\s+ok/.test(text),
        );
        const info = await group.command(master, 'INFO', 'replication');
        return found.every(text => /^OK 3 /.test(text)) && areReplicasKnown && /state=online/.test(info) ? true : undefined;
      },
      () => 'the Sentinels do not find each other',
      START_TIMEOUT_MS,
    );
    return group;
  }

  static async #start(
    ports: readonly number[],
    servers: readonly string[],
    sentinels: readonly number[] = [],
  ): Promise<RedisGroup> {
    const name = uniqueName();
    removeContainerAtEnd(name);
    const script = `${servers.map(server => `(${server}) &`).join('\n')}\nwait`;
    const container = await new AppContainer(REDIS_IMAGE)
      .withName(name)
      .withEntrypoint(['sh', '-c', script])
      .withBindMounts([{ source: TLS, target: '/tls', mode: 'ro' }])
      .withSamePortsOnLoopback(...ports)
      .withWaitStrategy(Wait.forAll([]))
      .start();
    const group = new RedisGroup(await engine(), container.getId(), ports, sentinels);
    await Promise.all(
      ports.map(port =>
        until(
          async () => ((await group.command(port, 'PING').catch(() => '')) === 'PONG' ? true : undefined),
          () => `no Redis on port ${port}`,
          START_TIMEOUT_MS,
        ),
      ),
    );
    return group;
  }

  private constructor(client: ContainerRuntimeClient, id: string, ports: readonly number[], sentinels: readonly number[]) {
    this.#client = client;
    this.#id = id;
    this.ports = ports;
    this.#sentinels = new Set(sentinels);
  }

  async command(port: number, ...args: string[]): Promise<string> {
    const password = this.#sentinels.has(port) ? SENTINEL_PASSWORD : ADMIN;
    const login = ['--tls', '--cacert', '/tls/ca.crt', '--no-auth-warning', '-a', password];
    const { exitCode, stdout, output } = await this.#exec(['redis-cli', ...login, '-p', String(port), ...args]);
    if (exitCode !== 0) throw new Error(`redis-cli ${args.join(' ')} must exit with 0, got ${exitCode}: ${output}`);
    return stdout.trim();
  }

  /** The port of the master that has a key. */
  async ownerOf(key: string): Promise<number> {
    for (const port of this.ports) {
      if ((await this.command(port, 'EXISTS', key)) === '1' && (await this.command(port, 'ROLE')).startsWith('master'))
        return port;
    }
    throw new Error(`no master has ${key}`);
  }

  /** Ends a server as a crash would. */
  async crash(port: number): Promise<void> {
    const pid = /process_id:(\d+)/.exec(await this.command(port, 'INFO', 'server'))?.[1] ?? '';
    await this.#exec(['sh', '-c', `kill -9 ${pid}`]);
  }

  async #exec(command: string[]) {
    return this.#client.container.exec(this.#client.container.getById(this.#id), command);
  }
}

async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}
