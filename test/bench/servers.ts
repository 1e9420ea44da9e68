/**
 * The servers that the benchmarks compare, what they cost, and how a series of paired measurements is summed up.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync, readFileSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import { freePort } from '../process/kit.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const APPS = join(import.meta.dirname, 'apps');

const COMPILE_CACHE = { NODE_COMPILE_CACHE: join(ROOT, 'node_modules', '.cache', 'koa-bosun') };

export const SERVERS = {
  'plain Koa, 1 process': { file: join(APPS, 'plain.mjs'), env: {} },
  'node:cluster, 2 workers': { file: join(APPS, 'cluster.mjs'), env: {} },
  'kit, 2 workers': { file: join(ROOT, 'src', 'main.ts'), env: { ...COMPILE_CACHE, NODE_CLUSTER_WORKERS: '2' } },
  'kit, 2 workers, no header': {
    file: join(ROOT, 'src', 'main.ts'),
    env: { ...COMPILE_CACHE, NODE_CLUSTER_WORKERS: '2', RESPONSE_TIME_HEADER: 'false' },
  },
} as const;
export type ServerName = keyof typeof SERVERS;

interface KitStatus {
  generation: number;
  workers: { state: string; generation: number }[];
  drains: { cutRequests: number; finishedRequests: number };
}

export class Server {
  readonly port: number;
  readonly #adminPort: number;
  readonly #process: ChildProcess;

  private constructor(child: ChildProcess, port: number, adminPort: number) {
    this.#process = child;
    this.port = port;
    this.#adminPort = adminPort;
  }

  static async start(name: ServerName, extra: Record<string, string> = {}): Promise<Server> {
    const [port, adminPort] = [await freePort(), await freePort()];
    const { file, env } = SERVERS[name];
    const child = spawn(process.execPath, [file], {
      stdio: 'ignore',
      env: {
        PATH: process.env.PATH,
        HOST: '127.0.0.1',
        PORT: String(port),
        ADMIN_PORT: String(adminPort),
        APP_MODULE: join(APPS, 'koa.mjs'),
        ...env,
        ...extra,
      },
    });
    return new Server(child, port, adminPort);
  }

  /** Resolves with the first 200. */
  async firstAnswer(): Promise<void> {
    while ((await statusOf(this.port)) !== 200) await new Promise(resolve => setTimeout(resolve, 1));
  }

  /** CPU time of the process and its children so far, in microseconds (Linux counts in ticks of 10 ms). */
  cpuMicroseconds(): number {
    const pids = [
      this.#process.pid,
      ...globSync(`/proc/${this.#process.pid}/task/*/children`).flatMap(file => readFileSync(file, 'utf8').trim().split(' ')),
    ];
    return pids.filter(Boolean).reduce<number>((sum, pid) => {
      const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
      return sum + (Number(fields[11]) + Number(fields[12])) * 10_000;
    }, 0);
  }

  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** The kit's `/status`. */
  async status(): Promise<KitStatus> {
    return (await (await fetch(`http://127.0.0.1:${this.#adminPort}/status`)).json()) as KitStatus;
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
    this.#process.kill('SIGTERM');
    await once(this.#process, 'exit');
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

/** `min/median/max` of a series. */
export function spread(values: readonly number[], digits: number): string {
  const sorted = [...values].sort((a, b) => a - b);
  return [sorted[0], sorted[sorted.length >> 1], sorted.at(-1)].map(value => (value ?? Number.NaN).toFixed(digits)).join('/');
}
