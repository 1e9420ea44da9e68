/**
 * Redis in a container, as `redis` on a network of its own with the apps, and everything that happens to a Redis.
 */
import { RedisContainer } from '@testcontainers/redis';
import type { ContainerRuntimeClient, StartedNetwork } from 'testcontainers';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { docker, engine, loopbackBindings, removeContainerAtEnd, uniqueName } from './engine.ts';

export const REDIS_IMAGE = 'redis:8';
const PORT = 6379;

class RedisServer extends RedisContainer {
  /** On this port of this machine, and for it only; 0: on none. By itself it would be on a free one of every address. */
  publishedOn(port: number): this {
    this.exposedPorts = port === 0 ? [] : [PORT];
    this.hostConfig.PortBindings = port === 0 ? {} : loopbackBindings([{ container: PORT, host: port }]);
    return this;
  }
}

export interface RedisStart {
  password?: string;
  /** On a port of this machine; where it is not said, as it is in no network. */
  published?: boolean;
}

export class Redis {
  readonly #client: ContainerRuntimeClient;
  readonly #id: string;
  readonly #login: string[];
  /** On 127.0.0.1, the same after a new start; 0 where it is not published. */
  readonly port: number;

  /** In a network, on a port of this machine, or both. Resolves when it takes connections. */
  static async start(network: StartedNetwork | undefined, { password, published }: RedisStart = {}): Promise<Redis> {
    const name = uniqueName();
    removeContainerAtEnd(name);
    const port = (published ?? network === undefined) ? await freePort() : 0;
    const container = new RedisServer(REDIS_IMAGE).withName(name).publishedOn(port);
    if (network !== undefined) container.withNetwork(network).withNetworkAliases('redis');
    if (password !== undefined) container.withPassword(password);
    const started = await container.start();
    const login = password === undefined ? [] : ['--no-auth-warning', '-a', password];
    return new Redis(await engine(), started.getId(), login, port);
  }

  private constructor(client: ContainerRuntimeClient, id: string, login: string[], port: number) {
    this.#client = client;
    this.#id = id;
    this.#login = login;
    this.port = port;
  }

  get #container() {
    return this.#client.container.getById(this.#id);
  }

  async command(...args: string[]): Promise<string> {
    const { exitCode, stdout, output } = await this.#client.container.exec(this.#container, [
      'redis-cli',
      ...this.#login,
      ...args,
    ]);
    if (exitCode !== 0) throw new Error(`redis-cli ${args.join(' ')} must exit with 0, got ${exitCode}: ${output}`);
    return stdout.trim();
  }

  /** Saves and ends. */
  async stop(): Promise<void> {
    await this.#container.stop({ t: 10 });
  }

  /** Ends without saving. */
  async kill(): Promise<void> {
    await this.#container.kill({ signal: 'SIGKILL' });
    await this.#container.wait();
  }

  /** Resolves when it takes commands again. */
  async startAgain(): Promise<void> {
    await this.#container.start();
    await until(
      async () => (await this.command('PING').catch(() => '')) === 'PONG' || undefined,
      () => 'Redis does not answer',
    );
  }

  /** Takes it out of the network: nobody gets an answer, nor a refusal. */
  async cut(network: StartedNetwork): Promise<void> {
    await docker(['network', 'disconnect', '--force', network.getId(), this.#id]);
  }

  /** Puts it back. */
  async join(network: StartedNetwork): Promise<void> {
    await docker(['network', 'connect', '--alias', 'redis', network.getId(), this.#id]);
  }

  async pause(): Promise<void> {
    await this.#container.pause();
  }

  async unpause(): Promise<void> {
    await this.#container.unpause();
  }
}
