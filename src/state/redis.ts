/**
 * The one way to connect to Redis: by URL, through Sentinels, or to a Cluster. A Redis outage costs milliseconds, never a hang:
 * commands fail at once while there is no connection, and the client reconnects without limit (docs/decisions/4-fail-fast-redis.md).
 */
import type { Config } from '../config/config.ts';
import { addressOf, describeRedis, redisLogin } from '../config/redis-address.ts';
import type { RedisState } from '../protocol/messages.ts';
import { printable } from '../protocol/shapes.ts';
import { Cluster, Command, Redis, type RedisOptions } from './ioredis.ts';
import { Backoff, isFailover, type Reconnecting, reconnecting, replaceConnection, watchRedis } from './redis-health.ts';
import './redis-protocol.ts';
import { ProtocolError } from './reply-guard.ts';

export type RedisClient = Redis | Cluster;

const CONNECT_TIMEOUT_MS = 1000;
const COMMAND_TIMEOUT_MS = 500;
/** A recovered Redis is found within a second. */
const MAX_RETRY_MS = 500;
const CLOSE_TIMEOUT_MS = 1000;
/** A frozen or lost server does not confirm that a connection ends: then it is destroyed, and the next one is made. ioredis waits for 2 s. */
const DISCONNECT_TIMEOUT_MS = 100;
/**
 * Of a connection to a Sentinel or its primary, and of a Sentinel's answer. A lost one delays the failover by this: the next Sentinel gets its
 * query afterwards, and the new primary is connected to after the old one.
 */
const SENTINEL_TIMEOUT_MS = 500;
/** Reported in one outage: the first reason may be the least informative, such as a closed connection. */
const MAX_REASONS = 3;

/** The limit of a state's message, which may contain text of Redis. */
export const MAX_MESSAGE = 500;

/** Spread out: hundreds of workers that lost Redis at the same moment must not reconnect at the same moment. */
const retryAfterMs = (attempt: number) => Math.round(Math.min(attempt * 50, MAX_RETRY_MS) * (0.5 + Math.random() / 2));

const FAIL_FAST = {
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  connectTimeout: CONNECT_TIMEOUT_MS,
  disconnectTimeout: DISCONNECT_TIMEOUT_MS,
} satisfies RedisOptions;

/** Redis answers, but not to us: wrong password, missing rights, no such database. Waiting does not help. */
const REFUSAL = /^(NOAUTH|WRONGPASS|NOPERM|ERR (DB index|invalid DB|AUTH|invalid password|Client sent AUTH))/;

export const isRefusal = (message: string) => REFUSAL.test(message);

/** What an operator may have overlooked, as a sentence after the refusal. */
function remedyOf(refusal: string, config: Config): string {
  const { password } = redisLogin(config);
  const after = refusal.endsWith('.') ? ' ' : '. '; // that of HELLO ends without one
  if (refusal.startsWith('NOAUTH') && password === undefined)
    return `${after}No password is set: REDIS_PASSWORD, or one in REDIS_URL`;
  const isOther = config.redisPassword !== undefined && config.redisPassword !== password;
  return refusal.startsWith('WRONGPASS') && isOther
    ? `${after}REDIS_URL has this password, and takes precedence over REDIS_PASSWORD`
    : '';
}

export interface ConnectOptions {
  /** For subscriptions: in a Cluster to sharded channels, which takes connections of their own. */
  subscribes?: boolean;
  /** After this long a command fails; a request waits for it. */
  commandTimeoutMs?: number;
}

/**
 * Connects in the background. Reports every change of state, and further reasons for an outage, in words for an operator without credentials.
 * @returns undefined where no Redis is configured
 */
export function connectRedis(
  config: Config,
  clientName: string,
  onState: (state: RedisState, message: string) => void,
  { subscribes = false, commandTimeoutMs = COMMAND_TIMEOUT_MS }: ConnectOptions = {},
): RedisClient | undefined {
  const state: Reconnecting = { backoff: new Backoff(), notBefore: 0, isFailingOver: false };
  const client = createClient(config, clientName, { subscribes, commandTimeoutMs }, state);
  if (client === undefined) return undefined;
  reconnecting.set(client, state);
  watchRedis(client);
  const where = describeRedis(config);
  let last: RedisState | undefined;
  const reported = new Set<string>();
  const report = (state: RedisState, message: string) => {
    if (state !== last) reported.clear();
    else if (state !== 'unreachable' || reported.has(message) || reported.size >= MAX_REASONS) return;
    last = state;
    reported.add(message);
    onState(state, printable(message, MAX_MESSAGE));
  };
  client.on('ready', () => {
    state.isFailingOver = false;
    report('ready', `Redis at ${where} is ready`);
  });
  client.on('error', (error: RedisError) => {
    const cause = error.lastNodeError ?? error;
    if (cause instanceof ProtocolError) {
      state.notBefore = performance.now() + state.backoff.next();
      return report('faulty', `Redis at ${where} breaks the Redis protocol: ${cause.message}`);
    }
    if (!isRefusal(cause.message)) return report('unreachable', `Redis at ${where} does not answer: ${reasonOf(cause)}`);
    report('refused', `Redis at ${where} refuses this client: ${cause.message}${remedyOf(cause.message, config)}`);
    // With a database that does not exist, ioredis would go on in database 0, among another application's data.
    replaceConnection(client);
  });
  client.on('close', () => {
    // Also emitted after a failed attempt, which has reported a better reason.
    if (last !== 'unreachable' && last !== 'faulty') report('unreachable', `Redis at ${where} has closed the connection`);
  });
  // ioredis gives up permanently if a Sentinel announces a failover while the client is looking up the master.
  client.on('end', () => setTimeout(() => connectAgain(client), MAX_RETRY_MS).unref());
  return client;
}

/** Clients that we have closed. */
const closed = new WeakSet<RedisClient>();

function connectAgain(client: RedisClient): void {
  if (closed.has(client) || client.status !== 'end') return;
  client.connect().catch(() => undefined); // its events report the outcome
}

function createClient(
  config: Config,
  clientName: string,
  { subscribes, commandTimeoutMs }: Required<ConnectOptions>,
  state: Reconnecting,
): RedisClient | undefined {
  const { redisCa: ca, redisSentinelPassword: sentinelPassword } = config;
  const address = addressOf(config);
  const tls = config.redisTls || address?.tls ? { ...(ca !== undefined && { ca }) } : undefined;
  const retryStrategy = (attempt: number) => Math.max(retryAfterMs(attempt), state.notBefore - performance.now());
  let failoverNotBefore = 0;
  // With limits: if the server stays a replica, a new connection does not help, and this one can still read.
  const reconnectOnError = ({ message }: Error) => {
    if (!isFailover(message) || state.isFailingOver || performance.now() < failoverNotBefore) return false;
    failoverNotBefore = performance.now() + state.backoff.next();
    state.isFailingOver = true;
    return true;
  };
  const options = {
    ...FAIL_FAST,
    retryStrategy,
    commandTimeout: commandTimeoutMs,
    connectionName: clientName,
    ...redisLogin(config),
    ...(tls && { tls }),
  };
  if (address !== undefined) {
    const { host, port, db, family } = address;
    return new Redis({ ...options, reconnectOnError, host, port, db, family });
  }
  if (config.redisSentinels !== undefined && config.redisSentinelName !== undefined) {
    return new Redis({
      ...options,
      reconnectOnError,
      sentinels: config.redisSentinels,
      name: config.redisSentinelName,
      sentinelRetryStrategy: retryAfterMs,
      connectTimeout: SENTINEL_TIMEOUT_MS,
      sentinelCommandTimeout: SENTINEL_TIMEOUT_MS,
      // A master that has lost its role does not announce it: the Sentinels do.
      failoverDetector: true,
      ...(sentinelPassword !== undefined && { sentinelPassword }),
      ...(tls && { sentinelTLS: tls, enableTLSForSentinelMode: true }),
    });
  }
  if (config.redisClusterNodes !== undefined) {
    return new Cluster(config.redisClusterNodes, {
      enableOfflineQueue: false,
      clusterRetryStrategy: retryStrategy,
      shardedSubscribers: subscribes,
      // A request waits for it: at most 0.2 s until the command has failed.
      maxRedirections: 4,
      retryDelayOnFailover: 50,
      retryDelayOnClusterDown: 50,
      slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
      // A certificate is for the name that the node announces, not for the address behind it.
      ...(tls && { dnsLookup: (address: string, found: (error: null, address: string) => void) => found(null, address) }),
      redisOptions: concealPasswords(options),
    });
  }
  return undefined;
}

/** Redis' maxmemory-policy; undefined if this client may not read it. */
export async function evictionPolicyOf(client: RedisClient): Promise<string | undefined> {
  try {
    const info = await client.info('memory');
    return /^maxmemory_policy:(\S+)/m.exec(info)?.[1];
  } catch {
    return undefined;
  }
}

/** Closes a client after the last request; `quit` rejects if Redis is unreachable, and may hang if it is frozen. */
export async function closeRedis(client: RedisClient): Promise<void> {
  closed.add(client);
  const timeout = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
  const tooLate = new Promise(resolve => timeout.addEventListener('abort', resolve));
  await Promise.race([client.quit().catch(() => undefined), tooLate]);
  client.disconnect();
}

/*
 * Patches of the kit's copy of ioredis. Each one replaces the single place through which all connections go, also those that it opens by itself.
 */

const TIMED_OUT = 'Command timed out';
const { setTimeout: startTimeout } = Command.prototype;

/**
 * A command has failed when Redis does not answer in time, not when this process was too busy to read the answer. Node.js runs due timers before
 * it reads from sockets: after a request that computes for longer than the timeout, every other request's command would fail.
 */
Command.prototype.setTimeout = function (this: Command, ms) {
  const { reject } = this;
  // An immediate runs after the sockets have been read: an answered command is settled by then, and rejecting it changes nothing.
  this.reject = error => (error.message === TIMED_OUT ? void setImmediate(reject, error) : reject(error));
  startTimeout.call(this, ms);
};

/** A client has the password in its options: printed or logged, it shows its state only. */
for (const { prototype } of [Redis, Cluster])
  showAs(prototype, function (this: RedisClient) {
    return { status: this.status };
  });

/** Printed or logged, `object` is shown as what `shown` returns. */
function showAs<T extends object>(object: T, shown: (this: T) => object): T {
  for (const name of ['toJSON', Symbol.for('nodejs.util.inspect.custom')])
    Object.defineProperty(object, name, { value: shown, configurable: true, writable: true });
  return object;
}

/** Printed or logged, the options of a client are shown without its passwords. */
function concealPasswords<T extends object>(options: T): T {
  return showAs(options, function () {
    return Object.fromEntries(Object.entries(this).filter(([name]) => !/password/i.test(name)));
  });
}

/** Makes the options of a client, and of each copy of it (`duplicate`). */
const parseOptions: (this: object, ...options: unknown[]) => void = Reflect.get(Redis.prototype, 'parseOptions');
Reflect.set(Redis.prototype, 'parseOptions', function (this: Redis, ...given: unknown[]) {
  parseOptions.apply(this, given);
  concealPasswords(this.options);
});

const CLOSED = 'Connection is closed.';
const NO_SLOTS = 'Failed to refresh slots cache.';
/** An error of a single connection explains an outage for this long. */
const RECENT_MS = 2000;

const ignore = () => undefined;
let lastError = { message: CLOSED, at: Number.NEGATIVE_INFINITY };
const { silentEmit } = Redis.prototype;

/**
 * Records errors of single connections: ioredis listens to the first error of a connection only, and reports of Sentinels and Cluster nodes that
 * they closed the connection, but not why.
 */
Redis.prototype.silentEmit = function (this: Redis & { stream?: NodeJS.EventEmitter }, name, argument) {
  // Without a stream it is the summary of a Cluster or of Sentinels.
  if (name === 'error' && this.stream) {
    // A TLS server that was refused for its certificate may send an error in turn; without a listener it would end the process.
    if (!this.stream.listeners('error').includes(ignore)) this.stream.on('error', ignore);
    const { message } = argument as Error;
    if (message !== '' && message !== CLOSED) lastError = { message, at: performance.now() };
  }
  return silentEmit.call(this, name, argument);
};

interface RedisError extends Error {
  code?: string;
  /** A Cluster reports only that all nodes failed; this is the last one's error. */
  lastNodeError?: RedisError;
}

/** Why there is no connection, for an operator. */
function reasonOf({ message, code }: RedisError): string {
  const [, ofSentinel] = /^All sentinels are unreachable.* Last error: (.*)$/s.exec(message) ?? [];
  const isRecent = performance.now() - lastError.at < RECENT_MS;
  const reason = ofSentinel ?? message;
  const detailed = isRecent ? reason.replace(CLOSED, lastError.message).replace(NO_SLOTS, lastError.message) : reason;
  return `${ofSentinel === undefined ? '' : 'no Sentinel answers: '}${detailed || code}`;
}
