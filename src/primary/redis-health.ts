/**
 * What Redis refuses to this pod, over all its processes: logged when it begins and when it is over, and no line between.
 */
import type { LogSource } from '../log.ts';
import type { RedisRefusal, RedisState } from '../messages.ts';

const EVERY_MS = 1000;
/** Why Redis does not answer, from one process, until it answers: more are noise. */
const MAX_REASONS = 5;

/** One that breaks the protocol is told once, until it has kept to it for so long. */
const EPISODE_MS = 60_000;

/** Whose connection: a worker's id, or `primary`. */
export type Owner = number | 'primary';

interface Known {
  /** Told since it was ready last. */
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

  /** `refused` gives what each process is refused now, `now` a monotonic clock in milliseconds. */
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

  /** A connection has another state, or a reason for it that has not been told since it was ready last. */
  changed(state: RedisState, message: string, owner: Owner): void {
    if (owner === 'primary') this.primary = { state, message };
    const known = this.#owners.get(owner) ?? { reasons: new Set(), faultyAt: undefined, state, message };
    this.#owners.set(owner, Object.assign(known, { state, message }));
    const isSilent = known.faultyAt !== undefined;
    if (state === 'faulty') known.faultyAt = this.#now();
    // It may shake hands each time before it goes wrong.
    if (isSilent) return;
    if (state === 'ready') known.reasons.clear();
    else if (known.reasons.has(message) || known.reasons.size >= MAX_REASONS) return;
    else known.reasons.add(message);
    this.#write(owner, known);
  }

  /** A worker has ended: another one of its number begins anew. */
  forget(owner: Owner): void {
    this.#owners.delete(owner);
  }

  /** Those that have kept to the protocol for a while: what they are now is news again. */
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
    this.#log()[state === 'ready' ? 'info' : 'warn']({ event: `redis.${state}`, ...whose, message });
  }
}

const keyOf = ({ code, command }: RedisRefusal) => `${code} ${command}`;
