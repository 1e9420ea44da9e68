/**
 * What Redis refuses to this pod, over all its processes: logged when a refusal begins and when it ends, not in between.
 */
import type { LogSource } from '../log/log.ts';
import type { RedisRefusal, RedisState } from '../protocol/messages.ts';

const EVERY_MS = 1000;
/** How many reasons one process may log until Redis answers: more are noise. */
const MAX_REASONS = 5;

/** A server that breaks the protocol is logged once, until it has been clean for this long. */
const EPISODE_MS = 60_000;

/** Whose connection: a worker's id, or `primary`. */
export type Owner = number | 'primary';

interface Known {
  /** Logged since it was last ready. */
  reasons: Set<string>;
  /** When it broke the protocol last, within an episode. */
  faultyAt: number | undefined;
  state: RedisState;
  message: string;
}

export class RedisHealth {
  readonly #log: LogSource;
  readonly #refused: () => readonly RedisRefusal[];
  readonly #owners = new Map<Owner, Known>();
  readonly #now: () => number;
  #standing: RedisRefusal[] = [];
  /** Of the primary's own connections. */
  primary: { state: RedisState; message: string } | undefined;

  /** `refused` returns the current refusals of each process, `now` is a monotonic clock in milliseconds. */
  constructor(log: LogSource, refused: () => readonly RedisRefusal[], now: () => number = () => performance.now()) {
    this.#log = log;
    this.#now = now;
    this.#refused = refused;
  }

  /** Refusals of all processes, a line for each reason and command. */
  get refusals(): readonly RedisRefusal[] {
    return this.#standing;
  }

  start(): void {
    setInterval(() => this.follow(), EVERY_MS).unref();
  }

  follow(): void {
    this.#endEpisodes();
    const before = new Map(this.#standing.map(refusal => [keyOf(refusal), refusal]));
    const now = new Map<string, RedisRefusal>();
    for (const refusal of this.#refused()) {
      const known = now.get(keyOf(refusal));
      now.set(keyOf(refusal), { ...refusal, count: refusal.count + (known?.count ?? 0) });
    }
    for (const [key, { code, command, message }] of now)
      if (!before.has(key)) this.#log().warn({ event: 'redis.refusing', code, command, error: message });
    for (const [key, { code, command }] of before)
      if (!now.has(key)) this.#log().info({ event: 'redis.accepting', code, command });
    this.#standing = [...now.values()];
  }

  /** A connection has a new state, or a reason not yet logged since it was last ready. */
  changed(state: RedisState, message: string, owner: Owner): void {
    if (owner === 'primary') this.primary = { state, message };
    const known = this.#owners.get(owner) ?? { reasons: new Set(), faultyAt: undefined, state, message };
    this.#owners.set(owner, Object.assign(known, { state, message }));
    const isSilent = known.faultyAt !== undefined;
    if (state === 'faulty') known.faultyAt = this.#now();
    // It may complete each handshake before it fails.
    if (isSilent) return;
    if (state === 'ready') known.reasons.clear();
    else if (known.reasons.has(message) || known.reasons.size >= MAX_REASONS) return;
    else known.reasons.add(message);
    this.#write(owner, known);
  }

  /** A worker has ended: a later one with its number starts afresh. */
  forget(owner: Owner): void {
    this.#owners.delete(owner);
  }

  /** Connections that have been clean for a while: their next state is logged again. */
  #endEpisodes(): void {
    for (const [owner, known] of this.#owners) {
      if (known.faultyAt === undefined || this.#now() - known.faultyAt < EPISODE_MS) continue;
      known.faultyAt = undefined;
      known.reasons.clear();
      this.#write(owner, known);
    }
  }

  #write(owner: Owner, { state, message }: Known): void {
    const whose = owner === 'primary' ? { connection: owner } : { worker: owner };
    if (state === 'ready') this.#log().info({ event: 'redis.ready', ...whose, message });
    else this.#log().warn({ event: `redis.${state}`, ...whose, message });
  }
}

const keyOf = ({ code, command }: RedisRefusal) => `${code} ${command}`;
