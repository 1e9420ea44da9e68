/**
 * What Redis refuses to this pod, over all its processes: logged when it begins and when it is over, and no line between.
 */
import type { LogSource } from '../log.ts';
import type { RedisRefusal, RedisState } from '../messages.ts';

const EVERY_MS = 1000;
/** Why Redis does not answer, from one process, until it answers: more are noise. */
const MAX_REASONS = 5;

/** Whose connection: a worker's id, or `primary`. */
export type Owner = number | 'primary';

export class RedisHealth {
  readonly #log: LogSource;
  readonly #refused: () => readonly RedisRefusal[];
  readonly #reasons = new Map<Owner, Set<string>>();
  #standing: RedisRefusal[] = [];
  /** Of the primary's own connections. */
  primary: { state: RedisState; message: string } | undefined;

  /** `refused` gives what each process is refused now. */
  constructor(log: LogSource, refused: () => readonly RedisRefusal[]) {
    this.#log = log;
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
    const reasons = this.#reasons.get(owner) ?? new Set();
    this.#reasons.set(owner, reasons);
    if (state === 'ready') reasons.clear();
    else if (reasons.has(message) || reasons.size >= MAX_REASONS) return;
    else reasons.add(message);
    const whose = owner === 'primary' ? { connection: owner } : { worker: owner };
    this.#log()[state === 'ready' ? 'info' : 'warn']({ event: `redis.${state}`, ...whose, message });
  }

  /** A worker has ended: another one of its number begins anew. */
  forget(owner: Owner): void {
    this.#reasons.delete(owner);
  }
}

const keyOf = ({ code, command }: RedisRefusal) => `${code} ${command}`;
