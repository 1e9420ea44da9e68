/**
 * A Redis with a replica behind one address, as Sentinel and a service of Kubernetes have it: a failover ends the connections, and the next
 * ones reach the replica, with what it has.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import type { RedisClient } from '../../src/state/redis.ts';
import { connected } from '../connected.ts';
import { until } from '../until.ts';
import { LocalRedis } from './redis.ts';

export class RedisPair {
  primary: LocalRedis;
  #replica: LocalRedis;
  readonly #sockets = new Set<Socket>();
  readonly #proxy = createServer(client => {
    const server = connect(this.primary.port, '127.0.0.1');
    for (const [socket, other] of [
      [client, server],
      [server, client],
    ] as const) {
      this.#sockets.add(socket);
      socket
        .on('error', () => undefined)
        .on('close', () => {
          this.#sockets.delete(socket);
          other.destroy();
        });
      socket.pipe(other);
    }
  });

  static async start(): Promise<RedisPair> {
    const [primary, replica] = await Promise.all([LocalRedis.start(), LocalRedis.start()]);
    const pair = new RedisPair(primary, replica);
    pair.#proxy.listen(0, '127.0.0.1');
    await once(pair.#proxy, 'listening');
    await pair.#replicate();
    return pair;
  }

  private constructor(primary: LocalRedis, replica: LocalRedis) {
    this.primary = primary;
    this.#replica = replica;
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.#proxy.address() as AddressInfo).port}`;
  }

  /** The replica takes over; the old server comes back as its replica. */
  async failOver(): Promise<void> {
    await this.primary.stop();
    const { client, close } = await connected(this.#replica);
    await client.replicaof('NO', 'ONE');
    await close();
    [this.primary, this.#replica] = [this.#replica, this.primary];
    for (const socket of this.#sockets) socket.destroy();
    await this.#replica.startAgain();
    await this.#replicate();
  }

  async stop(): Promise<void> {
    this.#proxy.close();
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all([this.primary.stop(), this.#replica.stop()]);
  }

  async #replicate(): Promise<void> {
    const [primary, replica] = [await connected(this.primary), await connected(this.#replica)];
    await primary.client.config('SET', 'repl-diskless-sync-delay', '0');
    await replica.client.replicaof('127.0.0.1', this.primary.port);
    await until(
      () => hasConfirmed(primary.client),
      () => 'the replica does not confirm a write',
    );
    await Promise.all([primary.close(), replica.close()]);
  }
}

/** INFO calls a replica online up to a second before it gets writes: it is ready once it has confirmed one. */
export async function hasConfirmed(primary: RedisClient): Promise<true | undefined> {
  await primary.set('probe', 1);
  return /state=online,offset=[1-9]/.test(await primary.info('replication')) || undefined;
}
