/**
 * A kit that a block of the documentation has started, in a terminal of its own.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { RawClient, request, requestJson } from '../process/clients.ts';
import type { Status } from '../process/kit.ts';
import { until } from '../until.ts';
import { environment } from './shell.ts';

/** A clone's first start installs the packages. */
const START_TIMEOUT_MS = 180_000;
const STOP_TIMEOUT_MS = 60_000;

export class Served {
  readonly port: number;
  readonly #adminPort: number;
  readonly #process: ChildProcess;
  /** bosun dev does not log its end. */
  readonly #isDev: boolean;
  readonly #ended: Promise<unknown>;
  #output = '';
  #hasEnded = false;

  /** Resolves when it is ready. */
  static async start(command: string, cwd: string, env: Record<string, string>): Promise<Served> {
    const served = new Served(command, cwd, env);
    await served.#ready(command).catch(error => {
      served.#signal('SIGKILL');
      throw error;
    });
    return served;
  }

  async #ready(command: string): Promise<void> {
    await until(
      async () => {
        if (this.#hasEnded) throw new Error(`${command} ended: ${this.#output}`);
        const ready = request(this.#adminPort, '/readyz').then(({ status }) => status === 200);
        return (await ready.catch(() => false)) || undefined;
      },
      () => `not ready: ${this.#output}`,
      START_TIMEOUT_MS,
    );
  }

  private constructor(command: string, cwd: string, env: Record<string, string>) {
    this.port = Number(env.PORT);
    this.#isDev = command.includes('bosun dev');
    this.#adminPort = Number(env.ADMIN_PORT);
    // A process group, as a terminal makes one.
    this.#process = spawn('bash', ['-c', command], {
      cwd,
      env: environment(env),
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.on('data', chunk => {
        this.#output += chunk;
      });
    }
    this.#ended = once(this.#process, 'close').then(() => {
      this.#hasEnded = true;
    });
  }

  get isRunning(): boolean {
    return !this.#hasEnded;
  }

  async status(): Promise<Status & { sizing: { reason: string } }> {
    return requestJson(this.#adminPort, '/status');
  }

  /** What a terminal is said to show, line by line: here, without one, the log is JSON, but that of bosun dev. */
  async assertLogged(shown: string): Promise<void> {
    for (const [line, event] of shown.matchAll(/^[\d:.]+ \w+ +(\S+) .*$/gm))
      await until(
        () => new RegExp(`"event":"${event}"|^[\\d:.]+ \\w+ +${event}\\b`, 'm').test(this.#output) || undefined,
        () => `not logged: ${line}`,
      );
  }

  /** Ctrl-C while a request is open: it is answered, and the kit says that it has cut nothing. */
  async assertDrains(slowPath: string): Promise<void> {
    await using client = await RawClient.open(this.port);
    const answer = client.request(slowPath);
    await until(
      async () => (await this.status()).workers.some(({ inFlight }) => inFlight > 0) || undefined,
      () => 'no request in flight',
    );
    const stopped = this.stop();
    assert.equal((await answer).status, 200);
    await stopped;
  }

  /** Ctrl-C; resolves when it has ended, with nothing cut. */
  async stop(): Promise<void> {
    if (this.#hasEnded) return;
    this.#signal('SIGINT');
    const timer = setTimeout(() => this.#signal('SIGKILL'), STOP_TIMEOUT_MS);
    await this.#ended;
    clearTimeout(timer);
    if (!this.#isDev) assert.match(this.#output, /"event":"primary\.exit","code":0/, this.#output);
  }

  /** To its process group. */
  #signal(signal: NodeJS.Signals): void {
    if (!this.#hasEnded && this.#process.pid !== undefined) process.kill(-this.#process.pid, signal);
  }
}

/** One visitor, a connection for each request: every worker goes on counting where the one before has stopped. */
export async function assertSessionsAreShared(served: Served, countPath: string): Promise<void> {
  const { workers } = await served.status();
  let cookie = '';
  const pids = new Set<number>();
  for (let n = 1; n <= 4 * workers.length; n++) {
    const { headers, body } = await request(served.port, countPath, { headers: cookie === '' ? {} : { Cookie: cookie } });
    cookie = headers['set-cookie']?.split(';')[0] ?? cookie;
    const answer = JSON.parse(body) as { count: number; pid: number };
    assert.equal(answer.count, n);
    pids.add(answer.pid);
  }
  assert.equal(pids.size, workers.length, 'every worker has answered');
}
