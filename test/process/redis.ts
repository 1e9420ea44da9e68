/**
 * A real Redis on a free port of this machine, where `redis-server` is installed; for tests and benchmarks.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { freePort } from '../free-port.ts';
import { until } from '../until.ts';
import { RawClient } from './clients.ts';
import { endWithUs } from './processes.ts';

/** For `test`: why it is skipped, where it is. */
export const withRedis = { skip: spawnSync('redis-server', ['--version']).error ? 'needs redis-server' : false };

export class LocalRedis {
  readonly port: number;
  #process: ChildProcess | undefined;

  /** Keeps nothing on disk. Who starts it ends it. */
  static async start(): Promise<LocalRedis> {
    const redis = new LocalRedis(await freePort());
    await redis.startAgain();
    return redis;
  }

  private constructor(port: number) {
    this.port = port;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** On the same port, empty; resolves when it answers. @throws Error where there is no redis-server: `apt-get install redis-server` */
  async startAgain(): Promise<void> {
    // A name of its own: it would load /tmp/dump.rdb, which another Redis may have left.
    const args = [
      '--bind',
      '127.0.0.1',
      '--port',
      String(this.port),
      '--save',
      '',
      '--appendonly',
      'no',
      '--dir',
      '/tmp',
      '--dbfilename',
      `${this.port}.rdb`,
    ];
    this.#process = spawn('redis-server', args, { stdio: 'ignore' });
    endWithUs(this.#process);
    await once(this.#process, 'spawn');
    await until(
      () => this.#answers(),
      () => `no Redis answers at ${this.url}`,
    );
  }

  /** Frozen, it answers nobody and refuses nobody. */
  freeze(): void {
    this.#process?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#process?.kill('SIGCONT');
  }

  /** Ends it at once, however it is. */
  async stop(): Promise<void> {
    if (this.#process === undefined || this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    const exited = once(this.#process, 'exit');
    this.#process.kill('SIGKILL');
    await exited;
  }

  async #answers(): Promise<true | undefined> {
    try {
      await using client = await RawClient.open(this.port);
      client.write('PING\r\n');
      await client.received(/^\+PONG/);
      return true;
    } catch {
      return undefined; // it does not listen yet
    }
  }
}
