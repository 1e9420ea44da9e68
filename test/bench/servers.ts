/**
 * The servers that the benchmarks compare, and what they cost.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../free-port.ts';
import { endWithUs, isAlive } from '../process/processes.ts';
import { cpuMicrosecondsOf, treeOf } from './machine.ts';

for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));

const ROOT = join(import.meta.dirname, '..', '..');
const APPS = join(import.meta.dirname, 'apps');
export const PEERS = join(import.meta.dirname, 'peers');
/** Stands for a temporary folder of the server's own. */
const FOLDER = '{folder}';
/** Stands for a free port, another one each time. */
const FREE_PORT = '{free port}';
const STOP_TIMEOUT_MS = 10_000;
const START_TIMEOUT_MS = 60_000;

const COMPILE_CACHE = { NODE_COMPILE_CACHE: join(ROOT, 'node_modules', '.cache', 'koa-bosun') };

interface Start {
  /** Run by Node.js, where no command is named. */
  file: string;
  command?: string;
  args?: readonly string[];
  cwd?: string;
  env: Readonly<Record<string, string>>;
}

const PLAIN = join(APPS, 'plain.mjs');
const MAIN = join(ROOT, 'src', 'main.ts');
/** Where `installPackage` has put the package. */
const PACKAGE = join(ROOT, 'test', 'output', 'package');
/** The policy may be another one than the default. */
const { NODE_CLUSTER_SCHED_POLICY } = process.env;
const TWO_WORKERS = {
  NODE_CLUSTER_WORKERS: '2',
  ...(NODE_CLUSTER_SCHED_POLICY !== undefined && { NODE_CLUSTER_SCHED_POLICY }),
};
const TWO = { ...COMPILE_CACHE, ...TWO_WORKERS };

export const SERVERS = {
  'plain Koa, 1 process': { file: PLAIN, env: {} },
  'node:cluster, 2 workers': { file: join(APPS, 'cluster.mjs'), env: {} },
  'kit, 2 workers': { file: MAIN, env: TWO },
  'kit, 2 workers, no header': { file: MAIN, env: { ...TWO, RESPONSE_TIME_HEADER: 'false' } },
  'kit of the package, 2 workers': {
    file: join(PACKAGE, 'node_modules', 'koa-bosun', 'dist', 'main.js'),
    env: TWO_WORKERS,
  },
  'throng, 2 workers': { file: join(PEERS, 'throng.mjs'), env: {} },
  'pm2, 2 workers': {
    file: join(PEERS, 'node_modules', 'pm2', 'bin', 'pm2-runtime'),
    args: ['start', PLAIN, '-i', '2'],
    env: { PM2_HOME: FOLDER },
  },
  'wattpm, 2 workers': {
    file: join(PEERS, 'node_modules', 'wattpm', 'bin', 'cli.js'),
    args: ['start'],
    cwd: join(PEERS, 'watt'),
    env: {},
  },
  'nginx + 2 processes': {
    command: '/bin/sh',
    file: join(PEERS, 'nginx.sh'),
    args: [process.execPath, PLAIN, FOLDER, FREE_PORT, FREE_PORT],
    env: {},
  },
} as const satisfies Record<string, Start>;
export type ServerName = keyof typeof SERVERS;

interface KitStatus {
  generation: number;
  workers: { pid: number; state: string; generation: number; connections: number }[];
  moved: number;
  drains: { cutRequests: number; finishedRequests: number };
}

/** Packs this tree and unpacks it as npm installs it; its dependencies are those of this tree. It has no compiled code yet. */
export function installPackage(): void {
  rmSync(PACKAGE, { recursive: true, force: true });
  const folder = join(PACKAGE, 'node_modules', 'koa-bosun');
  mkdirSync(folder, { recursive: true });
  execFileSync('make', ['package', `PACKAGE_DIR=${PACKAGE}`], { cwd: ROOT, stdio: 'ignore' });
  const [tarball = ''] = readdirSync(PACKAGE).filter(name => name.endsWith('.tgz'));
  execFileSync('tar', ['xzf', join(PACKAGE, tarball), '-C', folder, '--strip-components=1']);
}

export class Server {
  readonly port: number;
  readonly #adminPort: number;
  readonly #process: ChildProcess;
  readonly #folder: string;

  private constructor(child: ChildProcess, folder: string, port: number, adminPort: number) {
    this.#process = child;
    this.#folder = folder;
    this.port = port;
    this.#adminPort = adminPort;
  }

  static async start(name: ServerName, extra: Record<string, string> = {}): Promise<Server> {
    const [port, adminPort] = [await freePort(), await freePort()];
    const { file, env, command = process.execPath, args = [], cwd }: Start = SERVERS[name];
    const folder = mkdtempSync(join(tmpdir(), 'bosun-bench-'));
    const own = (text: string) => text.replaceAll(FOLDER, folder);
    const given = await Promise.all(args.map(async text => (text === FREE_PORT ? String(await freePort()) : own(text))));
    const child = spawn(command, [file, ...given], {
      stdio: 'ignore',
      ...(cwd !== undefined && { cwd }),
      env: {
        PATH: process.env.PATH,
        HOST: '127.0.0.1',
        PORT: String(port),
        ADMIN_PORT: String(adminPort),
        APP_MODULE: join(APPS, 'koa.mjs'),
        ...Object.fromEntries(Object.entries(env).map(([key, value]) => [key, own(value)])),
        ...extra,
      },
    });
    endWithUs(child);
    return new Server(child, folder, port, adminPort);
  }

  /** Resolves with the first 200. @throws where it does not come */
  async firstAnswer(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while ((await statusOf(this.port)) !== 200) {
      if (performance.now() > deadline) throw new Error(`no 200 within ${START_TIMEOUT_MS} ms`);
      await new Promise(resolve => setTimeout(resolve, 1));
    }
  }

  /** CPU time of the process and all its descendants so far, in microseconds (Linux counts in ticks of 10 ms). */
  cpuMicroseconds(): number {
    return cpuMicrosecondsOf(this.#pids());
  }

  /** Of the process that was started alone. */
  primaryCpuMicroseconds(): number {
    return cpuMicrosecondsOf([Number(this.#process.pid)]);
  }

  /** How often its processes went to sleep so far. */
  wakeUps(): number {
    return this.#pids().reduce((sum, pid) => {
      const count = /^voluntary_ctxt_switches:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      return sum + Number(count);
    }, 0);
  }

  /** Memory of all its processes in MiB; what they share is counted once (PSS). */
  pssMib(): number {
    const kib = this.#pids().map(pid => /^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1]);
    return kib.reduce((sum, value) => sum + Number(value), 0) / 1024;
  }

  #pids(): number[] {
    return treeOf(Number(this.#process.pid));
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** A page of the kit's admin port. */
  admin(path: string): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.#adminPort}${path}`);
  }

  /** Reads `/events` as an open dashboard does, until the function that it returns is called. */
  async openDashboard(): Promise<() => Promise<void>> {
    const { body } = await this.admin('/events');
    const reader = body?.getReader();
    const reading = (async () => {
      while (reader !== undefined && !(await reader.read()).done);
    })();
    return async () => {
      await reader?.cancel();
      await reading;
    };
  }

  /** The kit's `/status`. */
  async status(): Promise<KitStatus> {
    return (await (await this.admin('/status')).json()) as KitStatus;
  }

  /** Resolves when all workers, and no others, are of that generation and ready. */
  async generation(generation: number): Promise<void> {
    for (;;) {
      const { workers } = await this.status();
      if (workers.length === 2 && workers.every(worker => worker.state === 'ready' && worker.generation === generation)) return;
      await new Promise(resolve => setTimeout(resolve, 20));
    }
  }

  async stop(): Promise<void> {
    const exited = once(this.#process, 'exit');
    const pids = this.#pids();
    const kill = () => pids.filter(isAlive).forEach(pid => void process.kill(pid, 'SIGKILL'));
    const timer = setTimeout(kill, STOP_TIMEOUT_MS);
    this.#process.kill('SIGTERM');
    await exited;
    clearTimeout(timer);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function statusOf(port: number): Promise<number | undefined> {
  return new Promise(resolve => {
    const request = http.get({ port, host: '127.0.0.1', agent: false }, response => {
      response.resume().on('end', () => resolve(response.statusCode));
    });
    request.on('error', () => resolve(undefined));
  });
}

/** Starts them all, runs a task once each has answered, and stops them, whatever happens. */
export async function withServers<T>(
  names: readonly ServerName[],
  task: (server: (name: ServerName) => Server) => Promise<T>,
): Promise<T> {
  const servers = new Map<ServerName, Server>();
  try {
    for (const name of names) servers.set(name, await Server.start(name));
    for (const server of servers.values()) await server.firstAnswer();
    return await task(name => {
      const server = servers.get(name);
      if (server === undefined) throw new Error(`"${name}" was not started`);
      return server;
    });
  } finally {
    await Promise.all([...servers.values()].map(server => server.stop()));
  }
}
