/**
 * A container of the kit's image: how it is started, and how a test uses it. Its log lines are events.
 */
import { EventEmitter, once } from 'node:events';
import { createInterface } from 'node:readline';
import { type ContainerRuntimeClient, type ExecResult, GenericContainer, type StartedNetwork, Wait } from 'testcontainers';
import { type Answer, type RequestOptions, request, requestJson } from '../process/clients.ts';
import type { LogEvent, Status } from '../process/kit.ts';
import { engine, imageId, loopbackBindings, removeContainerAtEnd, uniqueName } from './engine.ts';

const APP_PORT = 3000;
const ADMIN_PORT = 9090;

/** Twenty workers on two busy CPUs need a third of it. */
const EVENT_TIMEOUT_MS = 60_000;

export interface AppOptions {
  /** That of this tree where it is missing. */
  image?: string;
  env?: Record<string, string>;
  cpus?: number;
  memoryMb?: number;
  user?: string;
  network?: StartedNetwork;
  /** A name on that network, which several containers may share. */
  alias?: string;
  /** An init as PID 1, as `docker run --init`; otherwise the primary itself is PID 1. */
  init?: boolean;
  /** Read-only root, no capabilities, no new privileges: as compose and Kubernetes run it. */
  hardened?: boolean;
  /** Files of this machine by their path in the container. */
  mounts?: Record<string, string>;
  /** A pod: the kubelet heeds no HEALTHCHECK, which runs a process every second until the app serves. */
  pod?: boolean;
  /** False for a container that is to exit by itself: its ports may be gone before Testcontainers has seen them. */
  published?: boolean;
}

/** What Testcontainers has no methods for. */
export class AppContainer extends GenericContainer {
  withInit(): this {
    this.hostConfig.Init = true;
    return this;
  }

  withReadonlyRoot(): this {
    this.hostConfig.ReadonlyRootfs = true;
    return this;
  }

  withoutHealthcheck(): this {
    this.createOpts.Healthcheck = { Test: ['NONE'] };
    return this;
  }

  /** On free ports, and for this machine only. */
  withPortsOnLoopback(...ports: number[]): this {
    this.withExposedPorts(...ports);
    this.hostConfig.PortBindings = loopbackBindings(ports.map(port => ({ container: port, host: 0 })));
    return this;
  }

  /** On the same ports of this machine, and for it only. */
  withSamePortsOnLoopback(...ports: number[]): this {
    this.withExposedPorts(...ports);
    this.hostConfig.PortBindings = loopbackBindings(ports.map(port => ({ container: port, host: port })));
    return this;
  }
}

/** Starts a container; that its app becomes ready is for the test to see. Without a shutdown delay, unless `env` has one. */
export async function startApp(options: AppOptions = {}): Promise<App> {
  const { env = {}, cpus, memoryMb, user, network, mounts = {} } = options;
  const name = uniqueName();
  const container = new AppContainer(options.image ?? (await imageId()))
    .withName(name)
    .withEnvironment({ SHUTDOWN_DELAY_MS: '0', SERVICE_NAME: 'koa-bosun', ...env })
    .withResourcesQuota({ ...(cpus && { cpu: cpus }), ...(memoryMb && { memory: memoryMb / 1024 }) })
    .withBindMounts(Object.entries(mounts).map(([target, source]) => ({ source, target })))
    .withWaitStrategy(Wait.forAll([]));
  if (options.published !== false) container.withPortsOnLoopback(APP_PORT, ADMIN_PORT);
  if (options.pod) container.withoutHealthcheck();
  if (options.init) container.withInit();
  if (user) container.withUser(user);
  if (network) container.withNetwork(network);
  if (options.alias) container.withNetworkAliases(options.alias);
  if (options.hardened) {
    container.withReadonlyRoot().withTmpFs({ '/tmp': '' });
    container.withDroppedCapabilities('ALL').withSecurityOpt('no-new-privileges:true');
  }
  removeContainerAtEnd(name);
  const started = await container.start();
  return App.of(started.getId());
}

export class App {
  readonly id: string;
  /** On 127.0.0.1; 0 where it is not published. */
  readonly port: number;
  readonly adminPort: number;
  readonly events: LogEvent[] = [];
  /** Lines that are no events. */
  otherOutput = '';
  readonly #client: ContainerRuntimeClient;
  readonly #news = new EventEmitter();
  #ended = false;

  /** Follows the log of a container that was started, from its first line. */
  static async of(id: string): Promise<App> {
    const client = await engine();
    const container = client.container.getById(id);
    const { NetworkSettings } = await container.inspect();
    const portOf = (port: number) => Number(NetworkSettings.Ports[`${port}/tcp`]?.[0]?.HostPort ?? 0);
    const app = new App(client, id, portOf(APP_PORT), portOf(ADMIN_PORT));
    const lines = createInterface({ input: await client.container.logs(container) });
    lines.on('line', line => app.#received(line));
    lines.once('close', () => app.#hasEnded());
    return app;
  }

  private constructor(client: ContainerRuntimeClient, id: string, port: number, adminPort: number) {
    this.#client = client;
    this.id = id;
    this.port = port;
    this.adminPort = adminPort;
  }

  get #container() {
    return this.#client.container.getById(this.id);
  }

  /** The first event of that name, past or to come, that `matches`. */
  async event(name: string, matches: (event: LogEvent) => boolean = () => true): Promise<LogEvent> {
    const signal = AbortSignal.timeout(EVENT_TIMEOUT_MS);
    for (;;) {
      const found = this.all(name).find(matches);
      if (found !== undefined) return found;
      if (this.#ended) throw new Error(`the container ended without event ${name}; so far: ${this.transcript()}`);
      if (signal.aborted) throw new Error(`no event ${name} within ${EVENT_TIMEOUT_MS} ms; so far: ${this.transcript()}`);
      await once(this.#news, 'line', { signal }).catch(() => undefined);
    }
  }

  all(name: string): LogEvent[] {
    return this.events.filter(({ event }) => event === name);
  }

  /** Resolves when all workers serve and the admin port answers. */
  async ready(): Promise<void> {
    await this.event('pool.ready');
    await this.event('admin.listening');
  }

  /** On a connection of its own: the workers take turns. */
  async request(path: string, parts?: RequestOptions): Promise<Answer> {
    return request(this.port, path, parts);
  }

  async probe(path: string): Promise<Answer> {
    return request(this.adminPort, path);
  }

  async status(): Promise<Status> {
    return requestJson<Status>(this.adminPort, '/status');
  }

  async inspect() {
    return this.#container.inspect();
  }

  /** How many processes run in the container. */
  async processCount(): Promise<number> {
    const { Processes } = (await this.#container.top()) as { Processes: string[][] };
    return Processes.length;
  }

  /** Runs a command in the container. */
  async exec(...command: string[]): Promise<ExecResult> {
    return this.#client.container.exec(this.#container, command);
  }

  /** What a command in the container prints; it must succeed. */
  async output(...command: string[]): Promise<string> {
    const { exitCode, stdout, output } = await this.exec(...command);
    if (exitCode !== 0) throw new Error(`${command.join(' ')} must exit with 0, got ${exitCode}: ${output}`);
    return stdout;
  }

  async signal(signal: NodeJS.Signals): Promise<void> {
    await this.#container.kill({ signal });
  }

  /** `docker stop`: SIGTERM, then SIGKILL where the exit takes longer than `graceSeconds`. */
  async stop(graceSeconds = 20): Promise<{ code: number; ms: number }> {
    const startedAt = performance.now();
    await this.#container.stop({ t: graceSeconds });
    const ms = performance.now() - startedAt;
    return { code: await this.exited(), ms };
  }

  /** The exit code; its last line has been read by then. */
  async exited(): Promise<number> {
    if (!this.#ended) {
      await once(this.#news, 'end', { signal: AbortSignal.timeout(EVENT_TIMEOUT_MS) }).catch(cause => {
        throw new Error(`no exit within ${EVENT_TIMEOUT_MS} ms; so far: ${this.transcript()}`, { cause });
      });
    }
    const { StatusCode } = (await this.#container.wait()) as { StatusCode: number };
    return StatusCode;
  }

  transcript(): string {
    return `${this.events.map(event => JSON.stringify(event)).join('\n')}\n${this.otherOutput}`;
  }

  #received(line: string): void {
    if (line.startsWith('{')) this.events.push(JSON.parse(line) as LogEvent);
    else this.otherOutput += `${line}\n`;
    this.#news.emit('line');
  }

  #hasEnded(): void {
    this.#ended = true;
    this.#news.emit('line'); // who waits for an event sees that none will come
    this.#news.emit('end');
  }
}
