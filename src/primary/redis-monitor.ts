/**
 * The state of Redis as all processes of this pod report it. Changes are logged, repetitions are not: a refused command when the refusal
 * begins and when it ends, and each reason for a lost connection once until Redis is ready again.
 */
import type { LogSource } from '../log/log.ts';
import type { RedisState } from '../protocol/messages.ts';
import type { RedisRefusal } from '../protocol/snapshot.ts';

const POLL_EVERY_MS = 1000;
/** How many reasons are logged for one process until Redis is ready. */
const MAX_REASONS = 5;
/** A server that breaks the protocol is logged once, until it has followed it for this long. */
const EPISODE_MS = 60_000;

/** Whose connection: a worker's id, or `primary`. */
export type Owner = number | 'primary';

interface Connection {
  /** Reasons logged since it was last ready. */
  reasons: Set<string>;
  /** When the server last broke the protocol; undefined between such episodes. */
  faultyAt: number | undefined;
  state: RedisState;
  message: string;
}

export class RedisMonitor {
  readonly #log: LogSource;
  readonly #refused: () => readonly RedisRefusal[];
  readonly #connections = new Map<Owner, Connection>();
  readonly #now: () => number;
  #current: RedisRefusal[] = [];
  /** Of the primary's own connections. */
  primary: { state: RedisState; message: string } | undefined;

  /** `refused` returns the current refusals of each process, `now` is a monotonic clock in milliseconds. */
  constructor(log: LogSource, refused: () => readonly RedisRefusal[], now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
    this.#refused = refused;
  }

  /** The current refusals, added up over all processes, one for each reason and command. */
  get refusals(): readonly RedisRefusal[] {
    return this.#current;
  }

  /** What the connection reports that has lost Redis for longest; undefined while all are ready. */
  get fault(): string | undefined {
    return [...this.#connections.values()].find(({ state }) => state !== 'ready')?.message;
  }

  start(): void {
    setInterval(() => this.tick(), POLL_EVERY_MS).unref();
  }

  /** Compares the refusals with those of the last tick; to be called once a second. */
  tick(): void {
    this.#endEpisodes();
    const before = new Map(this.#current.map(refusal => [keyOf(refusal), refusal]));
    const now = new Map<string, RedisRefusal>();
    for (const refusal of this.#refused()) {
      const known = now.get(keyOf(refusal));
      now.set(keyOf(refusal), { ...refusal, count: refusal.count + (known?.count ?? 0) });
    }
    for (const [key, { code, command, message }] of now)
      if (!before.has(key)) this.#log().warn({ event: 'redis.refusing', code, command, error: message });
    for (const [key, { code, command }] of before)
      if (!now.has(key)) this.#log().info({ event: 'redis.accepting', code, command });
    this.#current = [...now.values()];
  }

  /** A connection has changed its state, or the reason for it. */
  onState(state: RedisState, message: string, owner: Owner): void {
    if (owner === 'primary') this.primary = { state, message };
    const known = this.#connections.get(owner) ?? { reasons: new Set(), faultyAt: undefined, state, message };
    this.#connections.set(owner, Object.assign(known, { state, message }));
    const isInEpisode = known.faultyAt !== undefined;
    if (state === 'faulty') known.faultyAt = this.#now();
    // Such a server may complete each handshake before it fails.
    if (isInEpisode) return;
    if (state === 'ready') known.reasons.clear();
    else if (known.reasons.has(message) || known.reasons.size >= MAX_REASONS) return;
    else known.reasons.add(message);
    this.#write(owner, known);
  }

  /** A worker has exited; a later one may get its id. */
  forget(owner: Owner): void {
    this.#connections.delete(owner);
  }

  /** Logs the state of connections whose server has kept to the protocol for a minute. */
  #endEpisodes(): void {
    for (const [owner, known] of this.#connections) {
      if (known.faultyAt === undefined || this.#now() - known.faultyAt < EPISODE_MS) continue;
      known.faultyAt = undefined;
      known.reasons.clear();
      this.#write(owner, known);
    }
  }

  #write(owner: Owner, { state, message }: Connection): void {
    const whose = owner === 'primary' ? { connection: owner } : { worker: owner };
    if (state === 'ready') this.#log().info({ event: 'redis.ready', ...whose, message });
    else this.#log().warn({ event: `redis.${state}`, ...whose, message });
  }
}

const keyOf = ({ code, command }: RedisRefusal) => `${code} ${command}`;
