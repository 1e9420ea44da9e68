/**
 * The table of environment variables: a row each, with its name, parser, default and line in docs/reference/environment.md.
 */
import { tmpdir } from 'node:os';
import type { DevSettings } from './inherited.ts';
import {
  ANY_ADDRESS,
  anyOf,
  cookieName,
  flag,
  hostPorts,
  list,
  milliseconds,
  nodeOptions,
  optional,
  port,
  sampled,
  text,
  type Variable,
  variable,
  wholeNumber,
  workerCount,
} from './parse.ts';
import { bearerToken, credential, keyList, redisUrl } from './secrets.ts';
import { NO_NAME, serviceName, serviceNameBefore } from './service-name.ts';

/** The balancing policies: where a new connection goes. Their rules are in balancing/policy.ts. */
export const POLICY_HELP = {
  rr: 'to each worker in turn',
  none: 'to whichever worker the kernel wakes',
  reuseport: 'to a worker the kernel picks by hashing the connection (SO_REUSEPORT)',
  'least-connections': 'to a worker with the fewest connections',
  'response-time': 'to a worker with about the shortest wait',
} as const;
export type Policy = keyof typeof POLICY_HELP;
export const POLICIES = Object.keys(POLICY_HELP) as Policy[];
const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;

const SHOWN_ANY_ADDRESS = '`0.0.0.0`, or `::` if the system has no IPv4';

/** Every environment variable that the kit reads, in the order of the documentation. */
export const variables = {
  workers: variable(
    'NODE_CLUSTER_WORKERS',
    'auto',
    workerCount,
    '`auto`: effective CPUs, rounded half up, at least 1, lowered until each worker has a workable heap. `max`: effective CPUs rounded up, never lowered for memory. `50%`: share of effective CPUs. `3`: exactly 3 (a warning above the CPUs). `WEB_CONCURRENCY` is read where this is unset',
    { alias: 'WEB_CONCURRENCY' },
  ),
  policy: variable(
    'NODE_CLUSTER_SCHED_POLICY',
    'least-connections',
    anyOf(POLICIES),
    `how connections reach the workers: ${POLICIES.map(name => `\`${name}\``).join(', ')} (see Balancing)`,
    { fixed: true },
  ),
  rebalanceKeepalive: variable(
    'REBALANCE_KEEPALIVE',
    'false',
    flag,
    'with `least-connections`: a worker that has more keep-alive connections than the others ends some with their next answer, at most a tenth a second',
  ),
  appModule: optional(
    'APP_MODULE',
    text,
    'the module of the app, or a folder with it (its package.json, or index.js); relative to the working directory',
    { shown: '`main` or `exports["."]` of the package.json in the working directory' },
  ),
  host: variable('HOST', ANY_ADDRESS, text, 'address the app listens on', { shown: SHOWN_ANY_ADDRESS, fixed: true }),
  port: variable('PORT', '3000', port, 'port the app is served on', {
    shown: '`3000`, or the port of an app that listens by itself',
    fixed: true,
  }),
  adminHost: variable('ADMIN_HOST', ANY_ADDRESS, text, 'address of the read-only admin port', {
    shown: SHOWN_ANY_ADDRESS,
    fixed: true,
  }),
  adminPort: variable('ADMIN_PORT', '9090', port, 'read-only admin port (probes, metrics, status); `0` turns it off', {
    fixed: true,
  }),
  adminToken: optional(
    'ADMIN_TOKEN',
    bearerToken,
    'required by the admin port except for the probes, as bearer token or password of basic authentication; shows the text of errors',
    { secret: true, inManifests: 'key token of the Secret admin-token' },
  ),
  controlSocket: optional(
    'CONTROL_SOCKET',
    text,
    'Unix socket of the control plane, mode 0600; nothing that changes state is reachable over TCP',
    {
      shown: '`bosun-<port>.sock` in the temp dir',
      fixed: true,
    },
  ),
  shutdownDelayMs: variable(
    'SHUTDOWN_DELAY_MS',
    '5000',
    milliseconds(),
    'after SIGTERM: not ready, still accepting (endpoint removal takes time)',
    {
      shown: '`5000`, outside production `0`',
      development: '0',
    },
  ),
  shutdownTimeoutMs: variable('SHUTDOWN_TIMEOUT_MS', '25000', milliseconds(), 'then: time for open requests before they are cut'),
  workerStartTimeoutMs: variable(
    'WORKER_START_TIMEOUT_MS',
    '30000',
    milliseconds(1),
    'a worker that is not ready by then has failed',
  ),
  startTimeoutMs: variable(
    'START_TIMEOUT_MS',
    '60000',
    milliseconds(),
    'a failing first start is retried for this time, then exit code 1; at once if a retry cannot help: a syntax error, a missing module, a wrong export, EADDRINUSE, EACCES',
  ),
  restartSurge: variable(
    'RESTART_SURGE',
    'auto',
    anyOf(['auto', 'always', 'never']),
    'a replacement starts the new worker first (`always`), ends the old one first while clients wait (`never`), or does what fits into memory (`auto`)',
  ),
  workerHeartbeatTimeoutMs: variable(
    'WORKER_HEARTBEAT_TIMEOUT_MS',
    '30000',
    milliseconds(),
    'a worker whose event loop is blocked this long is replaced; `0` off',
    { fixed: true },
  ),
  workerNodeOptions: optional(
    'WORKER_NODE_OPTIONS',
    nodeOptions,
    'Node.js options for the workers only, written as in `NODE_OPTIONS` ([Node.js options](../node-options.md))',
  ),
  workerMaxRequests: variable('WORKER_MAX_REQUESTS', '0', wholeNumber(0), 'recycle a worker after that many requests', {
    shown: '`0` (off)',
  }),
  workerMaxRequestsJitter: variable(
    'WORKER_MAX_REQUESTS_JITTER',
    '0',
    wholeNumber(0),
    'up to that many more requests, at random per worker, so that not all recycle at once',
  ),
  workerMaxRssMb: variable('WORKER_MAX_RSS_MB', '0', wholeNumber(0), 'recycle above this resident size (MiB), with a drain', {
    shown: '`0` (derived from the memory limit)',
  }),
  workerMaxAgeMs: variable('WORKER_MAX_AGE_MS', '0', milliseconds(), 'recycle by age', { shown: '`0` (off)' }),
  restartIntensity: variable(
    'RESTART_INTENSITY',
    '10',
    wholeNumber(0),
    'with more crashes within the period, and no worker serving for 10 s without a break, the primary exits with 70',
  ),
  restartPeriodMs: variable('RESTART_PERIOD_MS', '60000', milliseconds(1), 'the period of `RESTART_INTENSITY`'),
  maxEventLoopDelayMs: variable(
    'MAX_EVENT_LOOP_DELAY_MS',
    '0',
    milliseconds(),
    'above this a worker sheds new requests with 503 and Retry-After',
    {
      shown: '`0` (off)',
    },
  ),
  keepAliveTimeoutMs: variable(
    'KEEP_ALIVE_TIMEOUT_MS',
    '75000',
    milliseconds(1),
    'an idle connection is ended after this; keep it above the load balancer’s',
  ),
  headersTimeoutMs: variable('HEADERS_TIMEOUT_MS', '60000', milliseconds(1), 'time for a client to send its headers (slowloris)'),
  requestTimeoutMs: variable(
    'REQUEST_TIMEOUT_MS',
    '300000',
    milliseconds(),
    'time for a client to send its whole request; `0`: no limit',
  ),
  maxHeaderBytes: variable('MAX_HEADER_BYTES', '16384', wholeNumber(1024, 1 << 20), 'size limit of request headers'),
  responseTimeHeader: variable('RESPONSE_TIME_HEADER', 'true', flag, '`X-Response-Time: <n>ms` on every response'),
  trustProxy: variable('TRUST_PROXY', 'false', flag, 'Koa’s `app.proxy`: trust `X-Forwarded-*` of the proxy in front'),
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
  ),
  sessionTtlSeconds: variable(
    'SESSION_TTL_SECONDS',
    '2592000',
    wholeNumber(1, 400 * 86400),
    'a session expires after this long without use',
  ),
  diagnosticsDir: variable('DIAGNOSTICS_DIR', tmpdir(), text, 'heap snapshots, CPU profiles', { shown: 'temp dir', fixed: true }),
  sizingRoot: variable('SIZING_ROOT', '/', text, 'reads `/proc` and `/sys` below another folder, to reproduce a support case', {
    fixed: true,
  }),
  logRequests: variable(
    'LOG_REQUESTS',
    'false',
    sampled,
    'a log line for each answered request (`true`), or for a share of them (`5%`); never its query',
  ),
  logLevel: variable('LOG_LEVEL', 'info', anyOf(LOG_LEVELS), 'pino levels', { fixed: true }),
} satisfies Record<string, Variable<unknown>>;

type Values = { [K in keyof typeof variables]: (typeof variables)[K] extends Variable<infer T> ? T : never };

/** All settings, parsed and frozen; `production` is NODE_ENV=production, `redisCa` what REDIS_CA_FILE holds, `dev` is set by `bosun dev`. */
export type Config = Readonly<Values & { production: boolean; redisCa?: string; dev?: DevSettings }>;
