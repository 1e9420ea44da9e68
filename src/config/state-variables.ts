/** The variables of Redis, the names in it, events and sessions. */
import { anyOf, cookieName, flag, hostPorts, list, optional, text, type Variable, variable, wholeNumber } from './parse.ts';
import { credential, keyList, redisUrl } from './secrets.ts';
import { NO_NAME, serviceName, serviceNameBefore } from './service-name.ts';

export const stateVariables = {
  redisUrl: optional(
    'REDIS_URL',
    redisUrl,
    '`redis://` or `rediss://` with user, password (a `%` in it is written `%25`), db; unset or empty: cookie sessions, local broadcast',
    { secret: true, mayBeEmpty: true },
  ),
  redisHost: optional('REDIS_HOST', text, 'host of Redis where `REDIS_URL` has none, as `redis://` or `redis://:6380/1`'),
  redisUsername: optional(
    'REDIS_USERNAME',
    credential,
    'user of Redis; one in the URL takes precedence. Sentinels and a Cluster have no URL',
  ),
  redisPassword: optional('REDIS_PASSWORD', credential, 'password of Redis; one in the URL takes precedence', {
    secret: true,
    inManifests: 'key password of the Secret redis',
  }),
  redisTls: variable(
    'REDIS_TLS',
    'false',
    flag,
    'TLS to Sentinels, their master, and the nodes of a Cluster; with `REDIS_URL`, use `rediss://`',
  ),
  redisCaFile: optional(
    'REDIS_CA_FILE',
    credential,
    'PEM file of the authority that has signed the certificates of Redis; goes with `rediss://` or `REDIS_TLS`',
  ),
  redisSentinels: optional('REDIS_SENTINELS', hostPorts, 'Redis Sentinels, `host:port,…`, instead of `REDIS_URL`'),
  redisSentinelName: optional('REDIS_SENTINEL_NAME', credential, 'the name of the master that the Sentinels watch'),
  redisSentinelPassword: optional(
    'REDIS_SENTINEL_PASSWORD',
    credential,
    'password of the Sentinels themselves, if they have one',
    {
      secret: true,
    },
  ),
  redisClusterNodes: optional(
    'REDIS_CLUSTER_NODES',
    hostPorts,
    'nodes of a Redis Cluster, `host:port,…`, instead of `REDIS_URL`',
  ),
  serviceName: optional(
    'SERVICE_NAME',
    serviceName,
    'the name of the service, with which every key and channel of the kit in Redis begins; apps with the same one share sessions and events ([sessions](../guide/sessions.md#which-apps-share-sessions))',
    { shown: 'the name in the app’s package.json', fixed: true },
  ),
  serviceNameBefore: optional(
    'SERVICE_NAME_BEFORE',
    serviceNameBefore,
    `the earlier name, while it is changed ([how](../guide/sessions.md#changing-the-name)); \`${NO_NAME}\`: names in Redis without one, as in version 0.1.0`,
    { fixed: true },
  ),
  broadcastDurable: variable(
    'BROADCAST_DURABLE',
    'false',
    flag,
    'events go through a Redis Stream: a pod that was disconnected receives the last 10,000 of them afterwards; must be the same in every pod',
    { fixed: true },
  ),
  broadcastRetained: variable(
    'BROADCAST_RETAINED',
    'configUpdate',
    list,
    'names of the events whose last value is sent to new workers and pods',
    { fixed: true },
  ),
  sessionKeys: optional(
    'SESSION_KEYS',
    keyList,
    'keys that sign the session cookie, separated by commas or lines, newest first; unset: with Redis one set is generated once and shared by every pod through Redis, without Redis a random one per start (with a warning)',
    { secret: true, inManifests: 'key keys of the Secret session-keys', shown: 'generated' },
  ),
  sessionCookie: variable(
    'SESSION_COOKIE',
    'koa:sess',
    cookieName,
    'name of the session cookie, with `__Host-` before it over TLS; also part of the names in Redis',
  ),
  sessionMaxBytes: variable(
    'SESSION_MAX_BYTES',
    '16384',
    wholeNumber(256, 1 << 20),
    'size limit of a session in Redis, as JSON; a larger one is an error of the request that writes it',
  ),
  sessionWrites: variable(
    'SESSION_WRITES',
    'last',
    anyOf(['last', 'versioned']),
    'concurrent writes of one session: with `last` the last one wins; with `versioned` changes to different fields are all kept, and the later change to the same field is answered with 409',
  ),
  sessionWaitReplicas: variable(
    'SESSION_WAIT_REPLICAS',
    '0',
    wholeNumber(0, 5),
    'a request that writes a session is answered only when that many replicas of Redis have it, otherwise with 503; not with a Redis Cluster',
    { unit: 'replicas' },
  ),
  sessionTtlSeconds: variable(
    'SESSION_TTL_SECONDS',
    '2592000',
    wholeNumber(1, 400 * 86400),
    'a session expires after this long without use',
  ),
} satisfies Record<string, Variable<unknown>>;
