/**
 * The one way to connect to Redis: by URL, through Sentinels, or to a Cluster. A Redis that is away costs milliseconds, never a hang:
 * commands fail at once while there is no connection, and the client reconnects for ever (docs/decisions/4-fail-fast-redis.md).
 */
import { Cluster, Redis, type RedisOptions } from 'ioredis';
import { addressOf, type Config, describeRedis } from '../config/config.ts';
import type { RedisState } from '../protocol/messages.ts';
import { Backoff } from './backoff.ts';
import './command-timeout.ts';
import './redis-protocol.ts';
import { type RedisError, reasonOf } from './connection-errors.ts';
import { type Reconnecting, reconnecting, replaceConnection } from './reconnecting.ts';
import { watchRedis } from './redis-stats.ts';
import { isFailover, printable } from './refusals.ts';
import { ProtocolError } from './reply-guard.ts';

export type RedisClient = Redis | Cluster;

const CONNECT_TIMEOUT_MS = 1000;
const COMMAND_TIMEOUT_MS = 500;
/** A Redis that is back is found within a second. */
const LONGEST_RETRY_MS = 500;
const CLOSE_TIMEOUT_MS = 1000;
/** Why Redis does not answer, in one outage: the first reason may be the poorest, as that a connection closed. */
const MOST_REASONS = 3;

/** The limit of a state's message, which may contain text of Redis. */
export const MAX_MESSAGE = 500;

/** Spread out: hundreds of workers that lost their Redis at the same moment don't come back at the same moment. */
const retryAfterMs = (attempt: number) => Math.round(Math.min(attempt * 50, LONGEST_RETRY_MS) * (0.5 + Math.random() / 2));

const FAIL_FAST = {
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  connectTimeout: CONNECT_TIMEOUT_MS,
} satisfies RedisOptions;

/** Redis answers, but not to us: wrong password, missing rights, no such database. Waiting does not help. */
const REFUSAL = /^(NOAUTH|WRONGPASS|NOPERM|ERR (DB index|invalid DB|AUTH|invalid password|Client sent AUTH))/;

export const isRefusal = (message: string) => REFUSAL.test(message);

export const isCluster = (client: RedisClient): client is Cluster => client instanceof Cluster;

export interface ConnectOptions {
  /** For subscriptions: in a Cluster to sharded channels, which takes connections of their own. */
  subscribes?: boolean;
  /** After this long a command has failed; a request waits for it. */
  commandTimeoutMs?: number;
}

/**
 * Connects in the background and reports every change of state, and another reason for the same, with words for an operator and no credentials in them.
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
  const told = new Set<string>();
  const report = (state: RedisState, message: string) => {
    if (state !== last) told.clear();
    else if (state !== 'unreachable' || told.has(message) || told.size >= MOST_REASONS) return;
    last = state;
    told.add(message);
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
    report('refused', `Redis at ${where} refuses this client: ${cause.message}`);
    // With a database that does not exist, ioredis would go on in database 0, among another application's data.
    replaceConnection(client);
  });
  client.on('close', () => {
    // After a failed attempt, too: that has told a better reason.
    if (last !== 'unreachable' && last !== 'faulty') report('unreachable', `Redis at ${where} has closed the connection`);
  });
  // ioredis gives up for ever where a Sentinel tells of a failover while it asks the Sentinels for the master.
  client.on('end', () => setTimeout(() => connectAgain(client), LONGEST_RETRY_MS).unref());
  return client;
}

/** Those that are not wanted any more. */
const closed = new WeakSet<RedisClient>();

function connectAgain(client: RedisClient): void {
  if (closed.has(client) || client.status !== 'end') return;
  client.connect().catch(() => undefined); // its events tell what became of it
}

function createClient(
  config: Config,
  clientName: string,
  { subscribes, commandTimeoutMs }: Required<ConnectOptions>,
  state: Reconnecting,
): RedisClient | undefined {
  const { redisCa: ca, redisSentinelPassword: sentinelPassword } = config;
  const address = addressOf(config);
  const username = config.redisUsername ?? address?.username;
  const password = config.redisPassword ?? address?.password;
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
    ...(username !== undefined && { username }),
    ...(password !== undefined && { password }),
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
      sentinelCommandTimeout: CONNECT_TIMEOUT_MS,
      // A master that has lost its role says nothing by itself: the Sentinels do.
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
      // A request waits for it: 0.2 s at most until the command has failed.
      maxRedirections: 4,
      retryDelayOnFailover: 50,
      retryDelayOnClusterDown: 50,
      slotsRefreshTimeout: CONNECT_TIMEOUT_MS,
      // A certificate is for the name that the node says, and not for the address behind it.
      ...(tls && { dnsLookup: (address: string, found: (error: null, address: string) => void) => found(null, address) }),
      redisOptions: options,
    });
  }
  return undefined;
}

/** Redis' maxmemory-policy; undefined where a client may not ask (managed services forbid CONFIG). */
export async function evictionPolicyOf(client: RedisClient): Promise<string | undefined> {
  try {
    const info = await client.info('memory');
    return /^maxmemory_policy:(\S+)/m.exec(info)?.[1];
  } catch {
    return undefined;
  }
}

/** Says goodbye after the last request; `quit` rejects where Redis is gone, and may hang where it is frozen. */
export async function closeRedis(client: RedisClient): Promise<void> {
  closed.add(client);
  const timeout = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
  const tooLate = new Promise(resolve => timeout.addEventListener('abort', resolve));
  await Promise.race([client.quit().catch(() => undefined), tooLate]);
  client.disconnect();
}
