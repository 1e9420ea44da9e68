/**
 * Session writes that wait until replicas have them (SESSION_WAIT_REPLICAS). Redis' WAIT covers the writes of its own connection only, and
 * blocks that connection. So these writes have a connection of their own, and go in batches: all that are due, then one WAIT for them,
 * while the next batch collects.
 */
import type { RedisClient } from './redis.ts';
import { refusals, replaceConnection, throughFailover } from './redis-health.ts';

/** Sends commands that write to a session. They may be repeated after a failover. */
export type Send<T> = (client: RedisClient) => Promise<T>;
export type WriteSession = <T>(send: Send<T>) => Promise<T>;

/** Too few replicas have confirmed a write in time. Redis has it, and loses it only with the server that took it. */
export class NotReplicatedError extends Error {
  override readonly name = 'NotReplicatedError';
}

/** Below the timeout of a command, which includes the way to Redis and back. */
export const REPLICA_TIMEOUT_MS = 400;
/** A dead connection looks healthy while every command on it times out: after this many batches without an answer it is replaced. */
const SILENT_BATCHES = 2;

const writers = new WeakMap<RedisClient, WriteSession>();

/** How sessions are written at the Redis of that client. */
export function sessionWriterOf(client: RedisClient): WriteSession {
  return writers.get(client) ?? (send => throughFailover(client, () => send(client)));
}

/** Writes sessions over a connection of their own, and waits for replicas. */
export class ReplicatedWrites {
  readonly #client: RedisClient;
  readonly #replicas: number;
  /** Each sends its commands, and resolves with a function that reports the outcome to its caller. */
  #batch: (() => Promise<(failure: Error | undefined) => void>)[] = [];
  #isBusy = false;
  #hasChecked = false;
  /** How many connections have ended. */
  #ended = 0;
  #silentBatches = 0;

  /**
   * @param client used for nothing else
   * @param replicas how many must confirm a write
   */
  constructor(client: RedisClient, replicas: number) {
    this.#client = client;
    this.#replicas = replicas;
    client.on('close', () => this.#ended++);
    client.on('ready', () => void this.#check());
  }

  /** Sessions of the Redis of that client are written by this one. */
  useFor(client: RedisClient): void {
    writers.set(client, send => this.write(send));
  }

  /**
   * Resolves with what `send` returns, once the replicas have what it wrote.
   * @throws NotReplicatedError, and the errors of `send`
   */
  async write<T>(send: Send<T>): Promise<T> {
    return throughFailover(this.#client, () => this.#enqueue(send));
  }

  #enqueue<T>(send: Send<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#batch.push(async () => {
        const [sent] = await Promise.allSettled([send(this.#client)]);
        return failure => {
          if (sent.status === 'rejected') reject(sent.reason);
          else if (failure !== undefined) reject(failure);
          else resolve(sent.value);
        };
      });
      void this.#sendBatches();
    });
  }

  async #sendBatches(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#batch.length > 0) {
      const batch = this.#batch;
      this.#batch = [];
      const endedBefore = this.#ended;
      const settles = await Promise.all(batch.map(send => send()));
      const failure = await this.#confirm(endedBefore);
      for (const settle of settles) settle(failure);
    }
    this.#isBusy = false;
  }

  /** @returns why it is not known that the replicas have all that was written; undefined if they have it */
  async #confirm(endedBefore: number): Promise<Error | undefined> {
    try {
      const confirmed = await this.#client.wait(this.#replicas, REPLICA_TIMEOUT_MS);
      this.#silentBatches = 0;
      // The new connection's WAIT knows nothing of the writes of the old one.
      if (this.#ended !== endedBefore) return new Error('the connection to Redis was replaced between a write and WAIT');
      return confirmed >= this.#replicas ? undefined : this.#refused(confirmed);
    } catch (error) {
      if (++this.#silentBatches >= SILENT_BATCHES && this.#client.status === 'ready') {
        this.#silentBatches = 0;
        replaceConnection(this.#client);
      }
      return error as Error;
    }
  }

  /** On the first connection, so that the operator knows before the first session. Nothing is written yet: WAIT counts the replicas. */
  async #check(): Promise<void> {
    if (this.#hasChecked || this.#isBusy) return;
    this.#hasChecked = true;
    this.#isBusy = true;
    await this.#confirm(this.#ended);
    this.#isBusy = false;
    await this.#sendBatches();
  }

  /** In the log, /status, the metrics and doctor it counts as a refusal by Redis. */
  #refused(confirmed: number): NotReplicatedError {
    const message = `NOREPLICAS ${confirmed} of ${this.#replicas} replicas (SESSION_WAIT_REPLICAS) have confirmed a write within ${REPLICA_TIMEOUT_MS} ms`;
    refusals.onError('wait', message);
    return new NotReplicatedError(message);
  }
}
