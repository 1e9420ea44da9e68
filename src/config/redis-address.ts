/**
 * Where Redis is, and how to log in there, from the variables that say so.
 */
import type { Config, Environment, LoadedSettings } from './config.ts';
import { formatRedisUrl, parseRedisUrl, type RedisAddress } from './secrets.ts';

/** The address and login in REDIS_URL, with REDIS_HOST where it has no host; undefined if it is not set. */
export function addressOf({ redisUrl, redisHost = '' }: Pick<Config, 'redisUrl' | 'redisHost'>): RedisAddress | undefined {
  if (redisUrl === undefined) return undefined;
  const address = parseRedisUrl(redisUrl);
  return { ...address, host: address.host || redisHost };
}

/** The login at Redis: what REDIS_URL has, and the rest from REDIS_USERNAME and REDIS_PASSWORD. */
export function redisLogin(config: Config): { username?: string; password?: string } {
  const address = addressOf(config);
  const username = address?.username ?? config.redisUsername;
  const password = address?.password || (config.redisPassword ?? address?.password);
  return { ...(username !== undefined && { username }), ...(password !== undefined && { password }) };
}

/**
 * What the environment of a worker adds so that a client of the app, which knows only REDIS_URL, finds the Redis of the kit: the URL with
 * its REDIS_HOST, and the login that stands beside it. Empty where REDIS_URL lacks nothing, or is not in the environment; a password that was read
 * from a file stays out of it.
 */
export function redisEnvironment({ config, fromFiles }: LoadedSettings, { REDIS_URL }: Environment): Environment {
  const address = addressOf(config);
  if (!REDIS_URL || address === undefined) return {};
  const full = { ...address, ...(fromFiles.REDIS_PASSWORD === undefined && redisLogin(config)) };
  return formatRedisUrl(full) === formatRedisUrl(parseRedisUrl(REDIS_URL)) ? {} : { REDIS_URL: formatRedisUrl(full) };
}

/** The address of Redis as text, without user and password. */
export function describeRedis(config: Config): string {
  const address = addressOf(config);
  if (address !== undefined) {
    const { host, port, db } = address;
    return `${host.includes(':') ? `[${host}]` : host}:${port}${db === 0 ? '' : `/${db}`}`;
  }
  const nodes = config.redisSentinels ?? config.redisClusterNodes ?? [];
  return nodes.map(({ host, port }) => `${host}:${port}`).join(',');
}

/** The number of the Redis database; a Cluster has only 0. */
export function redisDatabase(config: Config): number {
  return addressOf(config)?.db ?? 0;
}

export function usesRedis(config: Config): boolean {
  return (config.redisUrl ?? config.redisSentinels ?? config.redisClusterNodes) !== undefined;
}

/** What contradicts itself in them, one sentence each. */
export function loginProblems(config: Config): string[] {
  const { redisPassword, redisCaFile, redisTls } = config;
  const found: string[] = [];
  const url = addressOf(config);
  if (url?.host === '') found.push('REDIS_URL must have a host, or REDIS_HOST must name it, got neither');
  if (url?.username && url.password === undefined && redisPassword === undefined)
    found.push('REDIS_URL has a user without a password, expected user:password@, or REDIS_PASSWORD beside it');
  if (redisTls && url?.tls === false) found.push('REDIS_TLS must go with a REDIS_URL of rediss://, got redis://');
  if (config.redisSentinelPassword !== undefined && config.redisSentinels === undefined)
    found.push('REDIS_SENTINEL_PASSWORD must go with REDIS_SENTINELS, got none');
  if (redisCaFile !== undefined && !(url?.tls || (redisTls && url === undefined)))
    found.push('REDIS_CA_FILE must go with a REDIS_URL of rediss://, or with REDIS_TLS, got neither');
  return found;
}
