/**
 * The last event of each retained name, as kept in Redis for later pods. A stored value counts only if it is an event, not too large, not from
 * the future and, with SESSION_KEYS, signed: anyone who can write to Redis can change it.
 */
import { MOST_BROADCAST_BYTES } from './broadcast.ts';
import type { RedisClient } from './redis.ts';
import { throughFailover } from './redis-health.ts';
import { latestStamp, STAMP_LENGTH } from './retained.ts';
import type { Seal } from './seal.ts';

/**
 * Keeps the newest, by the stamp before the first line end: an older one changes nothing and gets the newer one as its answer. A stored value counts only
 * with a valid stamp not above ARGV[3], if it is not larger than ARGV[4], and if it is not ARGV[5], which is unsigned.
 */
const KEEP_NEWEST = `if redis.call('HSTRLEN', KEYS[1], ARGV[1]) <= tonumber(ARGV[4]) then
  local kept = redis.call('HGET', KEYS[1], ARGV[1])
  local stamp = kept and kept ~= ARGV[5] and string.match(kept, '^(%d+%-%x+)\\n')
  if stamp and #stamp == ${STAMP_LENGTH} and stamp <= ARGV[3] and stamp >= string.match(ARGV[2], '^[^\\n]*') then return kept end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return false`;

/** The values of these names that are not larger than ARGV[1]. */
const READ_KEPT = `local found = {}
for i = 2, #ARGV do
  found[i - 1] = redis.call('HSTRLEN', KEYS[1], ARGV[i]) <= tonumber(ARGV[1]) and redis.call('HGET', KEYS[1], ARGV[i]) or ''
end
return found`;

/** An event's data with its stamp and signature. */
const MOST_KEPT_BYTES = MOST_BROADCAST_BYTES + 128;

export interface KeptOptions {
  /** The hash in Redis. */
  key: string;
  /** The label in signatures: what this is, and of which database. */
  label: string;
  /** Of the events that are kept. */
  names: readonly string[];
  seal: Seal;
  onIgnored: (reason: 'unauthenticated' | 'malformed') => void;
}

export class KeptEvents {
  readonly #redis: RedisClient;
  readonly #options: KeptOptions;

  constructor(redis: RedisClient, options: KeptOptions) {
    this.#redis = redis;
    this.#options = options;
  }

  /** Keeps `value` under `name` for pods that come later, unless a newer one is kept: then that one is the answer. @throws where Redis does not take it */
  async keep(name: string, { stamp, text }: StampedText): Promise<StampedText | undefined> {
    const sealed = this.#options.seal.sign(this.#labelOf(name), `${stamp}\n${text}`);
    const keepUnless = (forged: string) =>
      throughFailover(this.#redis, () =>
        this.#redis.eval(KEEP_NEWEST, 1, this.#options.key, name, sealed, latestStamp(Date.now()), MOST_KEPT_BYTES, forged),
      );
    const newer = await keepUnless('');
    if (typeof newer !== 'string' || newer === '') return undefined;
    const genuine = this.#opened(name, newer);
    if (genuine === undefined) await keepUnless(newer);
    return genuine;
  }

  /** All kept events, by name. @throws if Redis refuses */
  async all(): Promise<Map<string, StampedText>> {
    const { names } = this.#options;
    const found = await this.#redis.eval(READ_KEPT, 1, this.#options.key, MOST_KEPT_BYTES, ...names);
    if (!Array.isArray(found) || found.length !== names.length)
      throw new Error(`retained values must be ${names.length} strings, got another value`);
    return new Map(
      names.flatMap((name, index) => {
        const value: unknown = found[index];
        const opened = typeof value === 'string' && value !== '' ? this.#opened(name, value) : undefined;
        return opened === undefined ? [] : [[name, opened] as const];
      }),
    );
  }

  #opened(name: string, value: string): StampedText | undefined {
    const opened = this.#options.seal.open(this.#labelOf(name), value);
    const kept = opened === undefined ? undefined : stampedOf(opened);
    const isGood = kept !== undefined && isJson(kept.text);
    if (!isGood) this.#options.onIgnored(opened === undefined ? 'unauthenticated' : 'malformed');
    return isGood ? kept : undefined;
  }

  #labelOf(name: string): string {
    return `${this.#options.label} ${name}`;
  }
}

export interface StampedText {
  stamp: string;
  text: string;
}

function stampedOf(value: string): StampedText {
  const end = value.indexOf('\n');
  return { stamp: value.slice(0, end), text: value.slice(end + 1) };
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}
