/**
 * The component redis-sentinel without Kubernetes: three containers with its scripts, each with Redis and Sentinel and an address that it keeps,
 * as its Service gives a pod. Their health check is the readiness probe.
 */
import { execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { StartedNetwork } from 'testcontainers';
import { ROOT } from '../process/kit.ts';
import { until } from '../until.ts';
import { atEnd, docker, engine, removeContainerAtEnd, uniqueName } from './engine.ts';
import { REDIS_IMAGE } from './redis.ts';

const run = promisify(execFile);
const SCRIPTS = join(ROOT, 'k8s', 'components', 'redis-sentinel');
const REDIS = '6379';
const SENTINEL = '26379';
const PODS = [0, 1, 2];
/** A first start takes 3 s, a failover as long. */
export const SETTLE_TIMEOUT_MS = 60_000;
/** Of networks with addresses of our choice: another one may have them. */
const MAX_TRIES = 5;

export class SentinelGroup {
  readonly network: StartedNetwork;
  /** For the kit. */
  readonly env: Record<string, string>;
  readonly #name: string;
  readonly #prefix: string;
  readonly #password: string;

  /** Nothing runs yet. */
  static async create(password: string): Promise<SentinelGroup> {
    const name = uniqueName();
    for (let tries = 1; ; tries++) {
      const prefix = `10.${randomInt(200, 250)}.${randomInt(256)}`;
      try {
        const id = await docker(['network', 'create', '--subnet', `${prefix}.0/24`, name]);
        const client = await engine();
        const network = new StartedNetwork(client, name, client.network.getById(id));
        atEnd(() => network.stop());
        return new SentinelGroup(network, name, prefix, password);
      } catch (error) {
        if (tries === MAX_TRIES) throw error;
      }
    }
  }

  private constructor(network: StartedNetwork, name: string, prefix: string, password: string) {
    this.network = network;
    this.#name = name;
    this.#prefix = prefix;
    this.#password = password;
    this.env = {
      REDIS_SENTINELS: PODS.map(pod => `redis-sentinel-${pod}:${SENTINEL}`).join(','),
      REDIS_SENTINEL_NAME: 'sessions',
      REDIS_PASSWORD: password,
      REDIS_SENTINEL_PASSWORD: password,
    };
  }

  #container(pod: number): string {
    return `${this.#name}-${pod}`;
  }

  addressOf(pod: number): string {
    return `${this.#prefix}.${10 + pod}`;
  }

  /** Starts a pod that has no data. */
  async startNew(...pods: number[]): Promise<void> {
    await Promise.all(pods.map(pod => this.#startNew(pod)));
  }

  async #startNew(pod: number): Promise<void> {
    const name = this.#container(pod);
    removeContainerAtEnd(name);
    await docker([
      ...['run', '--detach', '--name', name, '--hostname', `redis-sentinel-${pod}`, '--user', '999:999', '--read-only'],
      ...['--network', this.#name, '--ip', this.addressOf(pod), '--network-alias', `redis-sentinel-${pod}`],
      ...[
        '--network-alias',
        `redis-sentinel-${pod}.test.svc`,
        '--env',
        'NAMESPACE=test',
        '--env',
        `REDISCLI_AUTH=${this.#password}`,
      ],
      ...['--tmpfs', '/tmp', '--volume', `${SCRIPTS}:/scripts:ro`, '--volume', '/data'],
      ...[
        '--health-cmd',
        'sh /scripts/ready.sh',
        '--health-interval',
        '1s',
        '--health-start-period',
        '1h',
        '--health-start-interval',
        '1s',
      ],
      ...['--entrypoint', 'sh', REDIS_IMAGE, '-c', 'sh /scripts/sentinel.sh & exec sh /scripts/redis.sh'],
    ]);
  }

  /** Ends a pod at once. Its data stays. */
  async kill(...pods: number[]): Promise<void> {
    await docker(['kill', ...pods.map(pod => this.#container(pod))]);
  }

  /** Removes a pod with its data. */
  async remove(...pods: number[]): Promise<void> {
    await docker(['rm', '--force', '--volumes', ...pods.map(pod => this.#container(pod))]);
  }

  /** Starts pods that were killed, one after the other. */
  async startAgain(...pods: number[]): Promise<void> {
    await docker(['start', ...pods.map(pod => this.#container(pod))]);
  }

  /** What a drain does to a pod: its preStop hook, and its end. */
  async drain(pod: number): Promise<void> {
    // Redis ends within it, and the container with Redis.
    await docker(['exec', this.#container(pod), 'sh', '/scripts/handover.sh']).catch(() => undefined);
    await docker(['stop', '--time', '10', this.#container(pod)]);
  }

  async freeze(pod: number): Promise<void> {
    await docker(['pause', this.#container(pod)]);
  }

  async thaw(pod: number): Promise<void> {
    await docker(['unpause', this.#container(pod)]);
  }

  async command(pod: number, ...args: string[]): Promise<string> {
    return this.#cli(pod, REDIS, args);
  }

  async #cli(pod: number, port: string, args: string[]): Promise<string> {
    return docker(['exec', this.#container(pod), 'timeout', '2', 'redis-cli', '--no-auth-warning', '-p', port, ...args]);
  }

  /** How long a master that does not answer must be missing before the Sentinels of these pods replace it. */
  async setDownAfter(ms: number, pods: readonly number[]): Promise<void> {
    const args = ['SENTINEL', 'SET', 'sessions', 'down-after-milliseconds', String(ms)];
    await Promise.all(pods.map(pod => this.#cli(pod, SENTINEL, args)));
  }

  async log(pod: number): Promise<string> {
    const { stdout, stderr } = await run('docker', ['logs', this.#container(pod)]);
    return stdout + stderr;
  }

  async role(pod: number): Promise<string> {
    const [role = '', , , link = ''] = (await this.command(pod, 'ROLE').catch(() => '')).split('\n');
    return role === 'slave' ? link : role;
  }

  /** The master, once the other two are connected to it and every Sentinel names it. */
  async settled(): Promise<number> {
    let seen = '';
    return until(
      async () => {
        const roles = await Promise.all(PODS.map(pod => this.role(pod)));
        const views = await Promise.all(PODS.map(pod => this.#view(pod)));
        seen = `${roles} ${views}`;
        const master = roles.indexOf('master');
        const isAgreed = views.every(view => view === this.addressOf(master));
        return isAgreed && roles.filter(role => role === 'connected').length === 2 ? master : undefined;
      },
      () => seen,
      SETTLE_TIMEOUT_MS,
    );
  }

  async #view(pod: number): Promise<string> {
    const found = await this.#cli(pod, SENTINEL, ['SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'sessions']).catch(() => '');
    return found.split('\n')[0] ?? '';
  }
}
