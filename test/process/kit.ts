/**
 * Starts the kit as a user would: the real entry in a real process, on free ports, with its log lines as events.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import type { DrainTotals } from '../../src/protocol/api.ts';
import type { ConcurrencyStatus } from '../../src/protocol/snapshot.ts';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { type Answer, request, requestJson } from './clients.ts';
import { childrenOf, groupOf, isAlive } from './processes.ts';

export const ROOT = join(import.meta.dirname, '..', '..');
export const APPS = join(ROOT, 'test', 'fixtures', 'apps');

/** This tree on this Node.js; or a program with its arguments, as JSON, such as the packed kit on an older one (test/apps/installs.ts). */
const PRIMARY: [string, ...string[]] = JSON.parse(
  process.env.TESTED_PRIMARY ?? JSON.stringify([process.execPath, join(ROOT, 'src', 'main.ts')]),
);

/** Twenty times what anything here takes on a quiet machine. */
const EVENT_TIMEOUT_MS = 60_000;

export interface LogEvent {
  event: string;
  [field: string]: unknown;
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

/** How a kit ends that has lost nothing. */
export const CLEAN: Exit = { code: 0, signal: null };

export class Kit {
  readonly process: ChildProcess;
  readonly events: LogEvent[] = [];
  /** Without a deadline; `exit()` has one. */
  readonly exited: Promise<Exit>;
  readonly adminPort: number;
  stderr = '';
  readonly #detached: boolean;
  #waiting: { matches: (event: LogEvent) => boolean; resolve: (event: LogEvent) => void }[] = [];

  constructor(child: ChildProcess, adminPort: number, detached: boolean) {
    this.process = child;
    this.adminPort = adminPort;
    this.#detached = detached;
    this.exited = once(child, 'close').then(([code, signal]) => ({ code, signal }));
    child.stderr?.on('data', chunk => {
      this.stderr += chunk;
    });
    if (child.stdout) createInterface({ input: child.stdout }).on('line', line => this.#received(line));
  }

  get pid(): number {
    return this.process.pid ?? 0;
  }

  /** The first event of that name, past or to come, that `matches`. */
  async event(name: string, matches: (event: LogEvent) => boolean = () => true): Promise<LogEvent> {
    const isIt = (event: LogEvent) => event.event === name && matches(event);
    const past = this.events.find(isIt);
    if (past) return past;
    const { promise, resolve, reject } = Promise.withResolvers<LogEvent>();
    this.#waiting.push({ matches: isIt, resolve });
    const timer = setTimeout(() => reject(new Error(`no event ${name}; so far: ${this.transcript()}`)), EVENT_TIMEOUT_MS);
    void this.exited.then(() => reject(new Error(`the kit exited without event ${name}; so far: ${this.transcript()}`)));
    return promise.finally(() => clearTimeout(timer));
  }

  /** Resolves when the request with `mark=<word>` has reached its route (fixture koa.mjs). */
  async begun(word: string): Promise<LogEvent> {
    return this.event('test.begun', ({ mark }) => mark === word);
  }

  all(name: string): LogEvent[] {
    return this.events.filter(({ event }) => event === name);
  }

  /** Where the app listens, once all workers serve. */
  async ready(): Promise<{ port: number; url: string }> {
    await this.event('pool.ready');
    return this.listening();
  }

  async listening(): Promise<{ port: number; url: string }> {
    const { url } = await this.event('app.listening');
    const port = Number(new URL(String(url)).port);
    return { port, url: `http://127.0.0.1:${port}` };
  }

  /** Each on a connection of its own: none that is kept stands in the way of a later exit. */
  async status(): Promise<Status> {
    return requestJson<Status>(this.adminPort, '/status');
  }

  async probe(path: string): Promise<Answer> {
    return request(this.adminPort, path);
  }

  /** The first status that `matches`: snapshots come once a second. */
  async statusWhere(matches: (status: Status) => boolean): Promise<Status> {
    return until(
      async () => {
        const status = await this.status();
        return matches(status) ? status : undefined;
      },
      () => `no such status; ${this.transcript()}`,
    );
  }

  /** Of the workers that ever served or exited, as the log names them. */
  get workerPids(): number[] {
    const named = this.events.filter(({ event }) => event === 'worker.ready' || event === 'worker.exit');
    return [...new Set(named.map(({ workerPid }) => Number(workerPid)))];
  }

  /** Resolves when no worker is left; those that the log does not name are seen only where the kit was started `detached`. */
  async workersGone(): Promise<void> {
    const left = () => [...new Set([...this.workerPids.filter(isAlive), ...(this.#detached ? groupOf(this.pid) : [])])];
    await until(
      () => left().length === 0 || undefined,
      () => `workers left: ${left()}; ${this.transcript()}`,
    );
  }

  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    this.signal(signal);
    return this.exit();
  }

  /** How it ended, or will: the end of its output too, which its workers hold as long as they live. */
  async exit(): Promise<Exit> {
    const { promise, reject } = Promise.withResolvers<never>();
    const tooLate = () => reject(new Error(`no end within ${EVENT_TIMEOUT_MS} ms; so far: ${this.transcript()}`));
    const timer = setTimeout(tooLate, EVENT_TIMEOUT_MS);
    return Promise.race([this.exited, promise]).finally(() => clearTimeout(timer));
  }

  /** Ends it with everything that it started, in whatever state it is. */
  async kill(): Promise<void> {
    const exited = new Set(this.all('worker.exit').map(({ workerPid }) => workerPid));
    const started = new Set([...this.workerPids.filter(pid => !exited.has(pid)), ...childrenOf(this.pid)]);
    this.process.kill('SIGKILL');
    // The launcher of the package is a process before the primary.
    if (this.#detached) for (const pid of groupOf(this.pid)) started.add(pid);
    for (const pid of started) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
    await this.exited;
  }

  transcript(): string {
    return `${this.events.map(event => JSON.stringify(event)).join('\n')}\n${this.stderr}`;
  }

  #received(line: string): void {
    let event: LogEvent;
    try {
      event = JSON.parse(line) as LogEvent;
    } catch {
      this.stderr += `${line}\n`; // an app's own output
      return;
    }
    this.events.push(event);
    const [now, later] = [
      this.#waiting.filter(({ matches }) => matches(event)),
      this.#waiting.filter(({ matches }) => !matches(event)),
    ];
    this.#waiting = later;
    for (const { resolve } of now) resolve(event);
  }
}

export interface Status {
  state: string;
  workers: {
    id: number;
    pid: number;
    state: string;
    generation: number;
    uptimeSeconds: number;
    connections: number;
    inFlight: number;
    requests: number;
    concurrency?: ConcurrencyStatus;
  }[];
  restarts: { total: number; byReason: Record<string, number> };
  drains: Pick<DrainTotals, 'count' | 'finishedRequests' | 'cutRequests' | 'webSockets' | 'eventStreams'>;
  recentErrors: { class: string }[];
  [field: string]: unknown;
}

export interface KitOptions {
  /** A file of test/fixtures/apps; the demo app where it is missing. */
  app?: string;
  /** What is run instead of this tree's main.ts, with its arguments. */
  command?: [string, ...string[]];
  /** Undefined takes a default of these tests away. */
  env?: Record<string, string | undefined>;
  cwd?: string;
  /** In a process group of its own, as a shell would start it. */
  detached?: boolean;
}

/** Starts the kit; it is killed with everything it started when the test ends. */
export async function startKit(options: KitOptions = {}): Promise<Kit> {
  const { app, env = {}, cwd = ROOT, detached = false } = options;
  const [program, ...args] = options.command ?? PRIMARY;
  const adminPort = env.ADMIN_PORT === undefined ? await freePort() : Number(env.ADMIN_PORT);
  const child = spawn(program, args, {
    cwd,
    detached,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: environmentOf(adminPort, app, env),
  });
  const kit = new Kit(child, adminPort, detached);
  after(async () => {
    await kit.kill();
    for (const { path } of kit.all('control.listening')) rmSync(String(path), { force: true });
  });
  return kit;
}

/** What a kit of these tests is started with. */
export const environmentOf = (adminPort: number, app: string | undefined, env: KitOptions['env']) => ({
  PATH: process.env.PATH,
  NODE_COMPILE_CACHE: join(ROOT, 'node_modules', '.cache', 'koa-bosun'),
  HOST: '127.0.0.1',
  ADMIN_HOST: '127.0.0.1',
  PORT: '0',
  ADMIN_PORT: String(adminPort),
  NODE_CLUSTER_WORKERS: '2',
  // Before the names in Redis, wherever the app is.
  SERVICE_NAME: 'koa-bosun',
  ...(app && { APP_MODULE: join(APPS, app) }),
  ...env,
});

/** A kit once all its workers serve, for assertAdopted; `drain` makes it drain. */
export async function adopterOf(kit: Kit, drain: () => void) {
  const { port } = await kit.ready();
  const stop = async () => {
    drain();
    await kit.exit();
    return Number((await kit.event('primary.exit')).code);
  };
  return { port, status: () => kit.status(), stop };
}
