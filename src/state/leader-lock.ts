/**
 * The lock of a leader in Redis: a hash with its owner that expires, and beside it the last token, which stays. Tokens grow also when Redis
 * has lost its last writes, or all of them, or its clock is behind: a new one is above the time, the last one, and the highest that the
 * candidate has seen. Where there are replicas, one of them has the lock before its owner uses it.
 */
import type { LeaderHolder } from '../protocol/leader.ts';
import { number, object, printable, string } from '../protocol/shapes.ts';
import type { RedisClient } from './redis.ts';
import { refusals, replaceConnection } from './redis-health.ts';
import { leaderKeys } from './redis-names.ts';
import { NotReplicatedError, REPLICA_TIMEOUT_MS } from './replica-wait.ts';

export type Acquired = { token: number };
/** `leftMs`: how long the lock lasts unless it is renewed. `lastToken` is at least the holder's. */
export type Held = { holder: LeaderHolder | undefined; lastToken: number; leftMs: number };

/** What a leader is elected by. */
export interface LeaderLock {
  /** `owner` must be new for each term; an attempt without an answer is repeated with the same one. @throws if its outcome is unknown */
  acquire(owner: string, seen: number): Promise<Acquired | Held>;
  /** @returns false if `owner` does not have it @throws if the outcome is unknown */
  renew(owner: string): Promise<boolean>;
  /** Does nothing if `owner` does not have it. */
  release(owner: string): Promise<void>;
}

/** From here on Lua and JavaScript cannot count by one: such a token is not ours, somebody else has written it. */
const NO_TOKEN = 2 ** 53 - 1;

/** KEYS: lock, last token. ARGV: owner, ttl in ms, highest token seen, holder as JSON. */
const ACQUIRE = `
local function whole(text)
  local value = tonumber(text or 0) or 0
  return value < ${NO_TOKEN} and value or 0
end
local owner = redis.call('hget', KEYS[1], 'owner')
local token = redis.call('hget', KEYS[1], 'token')
if owner and owner ~= ARGV[1] then
  local last = string.format('%.0f', math.max(whole(token), whole(redis.call('get', KEYS[2]))))
  return {0, last, redis.call('hget', KEYS[1], 'holder') or '', token or '', redis.call('pttl', KEYS[1])}
end
if not owner then
  local time = redis.call('time')
  local last = math.max(whole(redis.call('get', KEYS[2])), whole(ARGV[3]))
  token = string.format('%.0f', math.max(time[1] * 1000000 + time[2], last + 1))
  redis.call('hset', KEYS[1], 'owner', ARGV[1], 'token', token, 'holder', ARGV[4])
  redis.call('set', KEYS[2], token)
end
redis.call('pexpire', KEYS[1], ARGV[2])
return {1, token}`;

const RENEW = `
if redis.call('hget', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
redis.call('pexpire', KEYS[1], ARGV[2])
return 1`;

const RELEASE = `
if redis.call('hget', KEYS[1], 'owner') ~= ARGV[1] then return 0 end
return redis.call('del', KEYS[1])`;

/** A dead connection looks healthy while every command on it times out: after this many in a row it is replaced. */
const SILENT_COMMANDS = 2;

export interface LockOptions {
  name: string;
  /** The current root of the service's names. @throws Error if it is not known yet */
  root: () => string;
  ttlMs: number;
  /** This worker, as others see it. */
  pod: string;
  worker: number;
}

export class RedisLock implements LeaderLock {
  readonly #client: RedisClient;
  readonly #options: LockOptions;
  /** Where the lock of the current term is: the name of the service may change. */
  #root: string | undefined;
  #silent = 0;

  /** `client` runs no blocking commands of others. */
  constructor(client: RedisClient, options: LockOptions) {
    this.#client = client;
    this.#options = options;
  }

  async acquire(owner: string, seen: number): Promise<Acquired | Held> {
    const { name, root, ttlMs, pod, worker } = this.#options;
    this.#root = root();
    const holder = JSON.stringify({ pod, worker, since: Date.now() });
    const keys = leaderKeys(this.#root, name);
    const [answer] = await this.#send(pipe => pipe.eval(ACQUIRE, 2, ...keys, owner, ttlMs, seen, holder));
    if (!Array.isArray(answer)) throw new Error(`the answer to an attempt to lead ${name} must be a list, got ${typeof answer}`);
    const [isOurs, token, ...rest] = answer;
    if (isOurs !== 1) return heldBy(Number(token), rest);
    await this.#confirm(owner);
    return { token: tokenOf(token) };
  }

  async renew(owner: string): Promise<boolean> {
    const { name, root, ttlMs } = this.#options;
    if (this.#root !== root()) {
      // The names of the service have moved: others look for the lock elsewhere now.
      await this.release(owner);
      return false;
    }
    const [answer] = await this.#send(pipe => pipe.eval(RENEW, 1, leaderKeys(this.#root ?? root(), name)[0], owner, ttlMs));
    return answer === 1;
  }

  async release(owner: string): Promise<void> {
    const { name } = this.#options;
    if (this.#root !== undefined) await releaseLock(this.#client, this.#root, name, owner);
  }

  /** Resolves once a replica has the lock, if there are replicas. @throws NotReplicatedError, and the lock is released */
  async #confirm(owner: string): Promise<void> {
    const { name, ttlMs } = this.#options;
    const [lock] = leaderKeys(this.#root ?? '', name);
    // In one pipeline, so that the server with the key gets both: in a Cluster, a command without a key would go to any.
    const [isKept, info] = await this.#send(pipe => pipe.eval(RENEW, 1, lock, owner, ttlMs).info('replication'));
    if (isKept !== 1) throw new Error(`the lock of the leader ${name} was lost at once`);
    if (!hasReplicas(info)) return;
    // WAIT covers the writes of its own connection: another one may have carried the attempt.
    const [isStillKept, confirmed] = await this.#send(pipe =>
      pipe.eval(RENEW, 1, lock, owner, ttlMs).wait(1, REPLICA_TIMEOUT_MS),
    );
    if (isStillKept === 1 && Number(confirmed) >= 1) return;
    const message = `NOREPLICAS no replica has confirmed the lock of the leader ${name} within ${REPLICA_TIMEOUT_MS} ms`;
    refusals.onError('wait', message);
    await this.release(owner);
    throw new NotReplicatedError(message);
  }

  /** Sends commands to the server that has the keys of the first one. @throws the first of their errors, but that of INFO, which may be forbidden */
  async #send(queue: (pipe: Pipeline) => Pipeline): Promise<unknown[]> {
    try {
      const results = (await queue(this.#client.pipeline()).exec()) ?? [];
      for (const [index, [error]] of results.entries()) if (error !== null && !(index > 0 && isForbidden(error))) throw error;
      this.#silent = 0;
      return results.map(([error, result]) => (error === null ? result : undefined));
    } catch (error) {
      if (!(error instanceof Error && error.message === 'Command timed out')) this.#silent = 0;
      else if (++this.#silent >= SILENT_COMMANDS && this.#client.status === 'ready') {
        this.#silent = 0;
        replaceConnection(this.#client);
      }
      throw error;
    }
  }
}

type Pipeline = ReturnType<RedisClient['pipeline']>;

/** Also for a holder that has died. Does nothing if `owner` does not have the lock. @throws if Redis fails */
export async function releaseLock(client: RedisClient, root: string, name: string, owner: string): Promise<void> {
  await client.eval(RELEASE, 1, leaderKeys(root, name)[0], owner);
}

const isForbidden = ({ message }: Error) => message.startsWith('NOPERM');

/** Whether a replica is connected and up to date, by what INFO says; false where INFO is forbidden. */
const hasReplicas = (info: unknown): boolean => typeof info === 'string' && /^\w+\d+:ip=.*\bstate=online\b/m.test(info);

function tokenOf(text: unknown): number {
  const token = Number(text);
  if (Number.isSafeInteger(token) && token > 0) return token;
  throw new Error(`the token of a leader must be a whole number below 2^53, got ${printable(String(text), 40)}`);
}

const MAX_TEXT = 300;
const storedHolder = object<{ pod: string; worker: number; since: number }>({
  pod: (value, at) => printable(string(MAX_TEXT)(value, at), 253),
  worker: number(0),
  since: number(0),
});

/** What the script answers of another one's lock. It is not trusted: anyone who can write to Redis can change it. */
function heldBy(lastToken: number, [holder, token, leftMs]: unknown[]): Held {
  return {
    holder: holderOf(holder, Number(token)),
    lastToken: Number.isSafeInteger(lastToken) ? lastToken : 0,
    leftMs: Number(leftMs),
  };
}

function holderOf(json: unknown, token: number): LeaderHolder | undefined {
  if (typeof json !== 'string' || json.length > 2 * MAX_TEXT || !Number.isSafeInteger(token)) return undefined;
  try {
    return { ...storedHolder(JSON.parse(json), 'holder'), token };
  } catch {
    return undefined;
  }
}
