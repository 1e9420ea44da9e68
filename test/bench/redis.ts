/**
 * A Redis for a benchmark: redis-server of this machine on a free port, without saving.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export class BenchRedis {
  readonly port: number;
  #process: ChildProcess | undefined;

  static async start(port: number): Promise<BenchRedis> {
    const redis = new BenchRedis(port);
    await redis.start();
    return redis;
  }

  private constructor(port: number) {
    this.port = port;
  }

  /** @throws Error where there is no redis-server: `apt-get install redis-server` */
  async start(): Promise<void> {
    const args = ['--port', String(this.port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
    this.#process = spawn('redis-server', args, { stdio: 'ignore' });
    await once(this.#process, 'spawn');
    while (!(await this.#answers())) await sleep(10);
  }

  /** SIGKILL ends it, SIGSTOP freezes it, SIGCONT lets it go on. */
  async signal(signal: NodeJS.Signals): Promise<void> {
    const exited = signal === 'SIGKILL' && this.#process ? once(this.#process, 'exit') : undefined;
    this.#process?.kill(signal);
    await exited;
  }

  async #answers(): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const socket = connect(this.port, '127.0.0.1', () => resolve(true));
    socket.once('error', () => resolve(false));
    return promise.finally(() => socket.destroy());
  }
}
