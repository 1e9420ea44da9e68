/**
 * How well Redis serves this process: commands, failures and latency, what it refuses, and how the process reacts to a connection that is
 * open but useless. Does not load ioredis: the session store exists without Redis too.
 */
import { once } from 'node:events';
import type { Cluster, Command, Redis } from 'ioredis';
import { isTraced, redisSpan } from '../log/telemetry.ts';
import { printable } from '../protocol/shapes.ts';
import { REDIS_BUCKETS_S, type RedisCounters, type RedisRefusal } from '../protocol/snapshot.ts';
import { ProtocolError } from './reply-guard.ts';

type Client = Redis | Cluster;

const counters: RedisCounters = {
  commands: 0,
  errors: 0,
  reconnects: 0,
  faults: 0,
  sumSeconds: 0,
  counts: REDIS_BUCKETS_S.map(() => 0).concat(0),
};

/** Counters of this process since its start, over all its connections, their handshakes left out. */
export const redisCounters = (): RedisCounters => ({ ...counters, counts: [...counters.counts] });

/** Information only: a missing permission is not a refusal. */
const OPTIONAL = 'info';

let isQuestion = false;

/** Sends a command, at once, whose refusal is an answer: it is not counted among what Redis refuses. */
export function asQuestion<T>(send: () => Promise<T>): Promise<T> {
  isQuestion = true;
  try {
    return send();
  } finally {
    isQuestion = false;
  }
}

/** Counts the commands, failures and reconnects of a client. */
export function watchRedis(client: Client): void {
  client.on('reconnecting', () => counters.reconnects++);
  client.on('error', error => {
    if (error instanceof ProtocolError) counters.faults++;
  });
  const sender: Pick<Cluster, 'sendCommand'> = client;
  const send = sender.sendCommand.bind(client);
  // ioredis' tracing channel does not report commands that fail for lack of a connection, and copies every argument.
  sender.sendCommand = (command: Command, ...rest) => {
    const endSpan = client.status !== 'connect' && isTraced() ? redisSpan(command.name) : undefined;
    const result = send(command, ...rest);
    if (client.status === 'connect') return result; // the handshake
    const sentAt = performance.now();
    const isOptional = isQuestion || command.name === OPTIONAL;
    counters.commands++;
    command.promise.then(
      () => {
        endSpan?.(false);
        countAnswer((performance.now() - sentAt) / 1000);
        refusals.onSuccess(command.name);
      },
      (error: unknown) => {
        endSpan?.(true);
        counters.errors++;
        if (!isOptional && error instanceof Error) refusals.onError(command.name, error.message);
      },
    );
    return result;
  };
}

function countAnswer(seconds: number): void {
  counters.sumSeconds += seconds;
  const bucket = REDIS_BUCKETS_S.findIndex(bound => seconds <= bound);
  const index = bucket === -1 ? REDIS_BUCKETS_S.length : bucket;
  counters.counts[index] = (counters.counts[index] ?? 0) + 1;
}

/** Codes of errors caused by the state or settings of Redis, not by the command: a retry does not fix them. */
const STANDING =
  /^(?:ERR Error running script.*?-)?(READONLY|MASTERDOWN|NOREPLICAS|OOM|MISCONF|NOPERM|NOAUTH|WRONGPASS|BUSY|LOADING|CLUSTERDOWN)\b/s;
/** A new connection may reach the new master: a managed Redis changes its master under the same name while connections stay open. */
const FAILOVER = ['READONLY', 'MASTERDOWN'];
/** The reply to a blocking command whose server becomes a replica. */
const UNBLOCKED = /^UNBLOCKED\b/;

/** The code of an error that counts as a refusal; undefined for others. */
export function refusalCode(message: string): string | undefined {
  return STANDING.exec(message)?.[1];
}

/** Whether an error shows that the server is no longer the master. */
export function isFailover(message: string): boolean {
  return FAILOVER.includes(refusalCode(message) ?? '') || UNBLOCKED.test(message);
}

/** The limit for an app that uses many forbidden commands. */
const MAX_REFUSALS = 20;
const MAX_TEXT = 200;
/** A refusal ends when the same command has worked and was not refused for this long: at its memory limit Redis alternates between the two. */
const REFUSAL_ENDS_AFTER_MS = 5000;

interface Entry extends RedisRefusal {
  lastAt: number;
  /** When the same command last worked. */
  workedAt: number;
}

/**
 * What Redis refuses although it answers, by reason and command: a replica refuses writes, memory is full, a snapshot has failed,
 * permissions are missing. Each one is logged once when it begins and once when it ends.
 */
export class Refusals {
  readonly #entries = new Map<string, Entry>();
  readonly #now: () => number;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  onError(command: string, message: string): void {
    const code = refusalCode(message);
    if (code === undefined) return;
    const key = `${code} ${command}`;
    const known = this.#entries.get(key);
    if (known === undefined && this.#entries.size >= MAX_REFUSALS) return;
    this.#entries.set(key, {
      code,
      command: printable(command, MAX_TEXT),
      message: printable(message, MAX_TEXT),
      count: (known?.count ?? 0) + 1,
      lastAt: this.#now(),
      workedAt: Number.NEGATIVE_INFINITY,
    });
  }

  onSuccess(command: string): void {
    for (const [key, entry] of this.#entries) if (key.endsWith(` ${command}`)) entry.workedAt = this.#now();
  }

  get current(): RedisRefusal[] {
    for (const [key, { lastAt, workedAt }] of this.#entries)
      if (workedAt > lastAt && this.#now() - lastAt >= REFUSAL_ENDS_AFTER_MS) this.#entries.delete(key);
    return [...this.#entries.values()].map(({ code, command, message, count }) => ({ code, command, message, count }));
  }
}

/** Of this process. */
export const refusals = new Refusals();

/** What Redis currently refuses to this process. */
export const redisRefusals = (): RedisRefusal[] => refusals.current;

const FIRST_WAIT_MS = 250;
const MAX_WAIT_MS = 5000;
/** After this long without a fault the next one counts as the first. */
const FORGET_FAULTS_AFTER_MS = 60_000;

/** How long to wait before replacing a useless connection: the first time not at all, then longer each time. */
export class Backoff {
  readonly #now: () => number;
  readonly #random: () => number;
  #faults = 0;
  #lastAt = Number.NEGATIVE_INFINITY;

  /** `now` is a monotonic clock in milliseconds. */
  constructor(now: () => number = () => performance.now(), random: () => number = Math.random) {
    this.#now = now;
    this.#random = random;
  }

  /** Call it for each fault. @returns milliseconds */
  next(): number {
    if (this.#now() - this.#lastAt > FORGET_FAULTS_AFTER_MS) this.#faults = 0;
    this.#lastAt = this.#now();
    const fault = this.#faults++;
    if (fault === 0) return 0;
    // Spread out: many workers have the same fault at the same moment.
    return Math.min(FIRST_WAIT_MS * 2 ** (fault - 1), MAX_WAIT_MS) * (0.5 + this.#random() / 2);
  }
}

/** Our state of a client, besides that of ioredis. */
export interface Reconnecting {
  backoff: Backoff;
  /** The earliest time of the next connection, by the monotonic clock. */
  notBefore: number;
  /** Its server was no longer the master: a new connection is being made. */
  isFailingOver: boolean;
}

export const reconnecting = new WeakMap<Client, Reconnecting>();

/** Replaces a useless connection: at once the first time, then with growing delays. */
export function replaceConnection(client: Client): void {
  const state = reconnecting.get(client);
  if (state !== undefined) state.notBefore = performance.now() + state.backoff.next();
  client.disconnect(true);
}

/** Whether a connection to the new master is being made. */
export const isFailingOver = (client: Client) => reconnecting.get(client)?.isFailingOver === true;

/** Longer than a new connection takes, shorter than a command's timeout. */
const FAILOVER_TIMEOUT_MS = 400;

/** Runs an idempotent command; repeats it on the new connection if its server is no longer the master. */
export async function throughFailover<T>(client: Client, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    // READONLY itself, or a command in flight when another one's READONLY had the connection replaced.
    if (!isFailingOver(client)) throw error;
    try {
      await once(client, 'ready', { signal: AbortSignal.timeout(FAILOVER_TIMEOUT_MS) });
    } catch {
      throw error;
    }
    return run();
  }
}
