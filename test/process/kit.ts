/**
 * Starts the kit as a user would: the real entry in a real process, on free ports, with its log lines as events.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after } from 'node:test';

export const ROOT = join(import.meta.dirname, '..', '..');
export const APPS = join(ROOT, 'test', 'fixtures', 'apps');

/** Nothing here takes longer, on a slow machine either. */
const EVENT_TIMEOUT_MS = 30_000;

export interface LogEvent {
  event: string;
  [field: string]: unknown;
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
}

export class Kit {
  readonly process: ChildProcess;
  readonly events: LogEvent[] = [];
  readonly exited: Promise<Exit>;
  readonly adminPort: number;
  stderr = '';
  #waiting: { matches: (event: LogEvent) => boolean; resolve: (event: LogEvent) => void }[] = [];

  constructor(child: ChildProcess, adminPort: number) {
    this.process = child;
    this.adminPort = adminPort;
    this.exited = once(child, 'close').then(([code, signal]) => ({ code, signal }));
    child.stderr?.on('data', chunk => {
      this.stderr += chunk;
    });
    if (child.stdout) createInterface({ input: child.stdout }).on('line', line => this.#heard(line));
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

  async status(): Promise<Status> {
    return (await (await fetch(`http://127.0.0.1:${this.adminPort}/status`)).json()) as Status;
  }

  async probe(path: string): Promise<{ status: number; body: string }> {
    const response = await fetch(`http://127.0.0.1:${this.adminPort}${path}`);
    return { status: response.status, body: await response.text() };
  }

  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Exit> {
    this.signal(signal);
    return this.exited;
  }

  transcript(): string {
    return `${this.events.map(event => JSON.stringify(event)).join('\n')}\n${this.stderr}`;
  }

  #heard(line: string): void {
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
    connections: number;
    inFlight: number;
    requests: number;
  }[];
  restarts: { total: number; byReason: Record<string, number> };
  drains: { count: number; finishedRequests: number; cutRequests: number };
  [field: string]: unknown;
}

export interface KitOptions {
  /** A file of test/fixtures/apps; the demo app where it is missing. */
  app?: string;
  env?: Record<string, string>;
  cwd?: string;
  /** In a process group of its own, as a shell would start it. */
  detached?: boolean;
}

/** Starts the kit; it is killed with everything it started when the test file ends. */
export async function startKit({ app, env = {}, cwd = ROOT, detached = false }: KitOptions = {}): Promise<Kit> {
  const adminPort = env.ADMIN_PORT === undefined ? await freePort() : Number(env.ADMIN_PORT);
  const child = spawn(process.execPath, [join(ROOT, 'src', 'main.ts')], {
    cwd,
    detached,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      PATH: process.env.PATH,
      NODE_COMPILE_CACHE: join(ROOT, 'node_modules', '.cache', 'koa-bosun'),
      HOST: '127.0.0.1',
      ADMIN_HOST: '127.0.0.1',
      PORT: '0',
      ADMIN_PORT: String(adminPort),
      NODE_CLUSTER_WORKERS: '2',
      ...(app && { APP_MODULE: join(APPS, app) }),
      ...env,
    },
  });
  after(() => child.kill('SIGKILL'));
  return new Kit(child, adminPort);
}

/** Below the range that the kernel gives to clients, so that nobody takes it between the look and the use. */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const server = createServer();
    const taken = await new Promise(resolve =>
      server.once('error', () => resolve(true)).listen(port, '127.0.0.1', () => resolve(false)),
    );
    if (taken) continue;
    await new Promise(resolve => server.close(resolve));
    return port;
  }
}

/** Whether a process with this id exists (and is no zombie of ours). */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
