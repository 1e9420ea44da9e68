/**
 * A real Redis on a free port of this machine, where `redis-server` is installed.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { after } from 'node:test';
import { RawClient } from './clients.ts';
import { freePort, until } from './kit.ts';

/** For `test`: why it is skipped, where it is. */
export const withRedis = { skip: spawnSync('redis-server', ['--version']).error ? 'needs redis-server' : false };

export class LocalRedis {
  readonly url: string;
  readonly #process: ChildProcess;

  constructor(process: ChildProcess, port: number) {
    this.#process = process;
    this.url = `redis://127.0.0.1:${port}`;
  }

  /** Keeps nothing on disk, and ends with the test. */
  static async start(): Promise<LocalRedis> {
    const port = await freePort();
    const args = ['--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no', '--dir', '/tmp'];
    const redis = new LocalRedis(spawn('redis-server', args, { stdio: 'ignore' }), port);
    after(() => redis.stop());
    await until(
      () => answers(port),
      () => `no Redis answers at ${port}`,
    );
    return redis;
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
  }
}

async function answers(port: number): Promise<true | undefined> {
  try {
    await using client = await RawClient.open(port);
    client.write('PING\r\n');
    await client.heard(/^\+PONG/);
    return true;
  } catch {
    return undefined; // it does not listen yet
  }
}
