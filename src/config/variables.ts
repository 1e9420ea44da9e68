/**
 * The table of environment variables: a row each, with its name, parser, default and line in docs/reference/environment.md. The rows
 * of one subject are in a file of their own (…-variables.ts).
 */
import { tmpdir } from 'node:os';
import type { ConfigFields } from './config-fields.ts';
import { httpVariables } from './http-variables.ts';
import type { DevSettings } from './inherited.ts';
import { lifecycleVariables } from './lifecycle-variables.ts';
import {
  ANY_ADDRESS,
  anyOf,
  flag,
  host,
  hostNames,
  optional,
  port,
  sampled,
  text,
  type Variable,
  variable,
  workerCount,
} from './parse.ts';
import { bearerToken } from './secrets.ts';
import { stateVariables } from './state-variables.ts';

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
    'true',
    flag,
    'kept connections move from a worker that has more to those that have fewer, between two requests, at most 200 a second (see Balancing); not with `MOVE_CONNECTIONS=false` or `NODE_CLUSTER_STICKY`',
  ),
  appModule: optional(
    'APP_MODULE',
    text,
    'the module of the app, or a folder with it (its package.json, or index.js); relative to the working directory',
    { shown: '`main` or `exports["."]` of the package.json in the working directory' },
  ),
  host: variable(
    'HOST',
    ANY_ADDRESS,
    host,
    'address the app listens on, or a Unix socket as `unix:/run/app.sock`, which leaves `PORT` unused',
    { shown: SHOWN_ANY_ADDRESS, fixed: true },
  ),
  port: variable('PORT', '3000', port, 'port the app is served on', {
    unit: 'a port number',
    shown: '`3000`, or the port of an app that listens by itself',
    fixed: true,
  }),
  adminHost: variable('ADMIN_HOST', ANY_ADDRESS, text, 'address of the read-only admin port', {
    shown: SHOWN_ANY_ADDRESS,
    fixed: true,
  }),
  adminPort: variable('ADMIN_PORT', '9090', port, 'read-only admin port (probes, metrics, status); `0` turns it off', {
    unit: 'a port number',
    fixed: true,
  }),
  adminAllowedHosts: optional(
    'ADMIN_ALLOWED_HOSTS',
    hostNames,
    'names by which browsers reach the admin port, besides addresses and localhost; not needed with `ADMIN_TOKEN`',
  ),
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
  ...lifecycleVariables,
  ...httpVariables,
  ...stateVariables,
  diagnosticsDir: variable('DIAGNOSTICS_DIR', tmpdir(), text, 'heap snapshots, CPU profiles', { shown: 'temp dir', fixed: true }),
  sizingRoot: variable('SIZING_ROOT', '/', text, 'reads `/proc` and `/sys` below another folder, to reproduce a support case', {
    fixed: true,
  }),
  logRequests: variable(
    'LOG_REQUESTS',
    'false',
    sampled,
    'a log line for each answered or aborted request (`true`), or for a share of them (`5%`); never its query',
    { unit: 'a share from 0 to 1' },
  ),
  logLevel: variable('LOG_LEVEL', 'info', anyOf(LOG_LEVELS), 'pino levels', { fixed: true }),
} satisfies Record<string, Variable<unknown>>;

/** The secrets: the key in the configuration, and the name of the variable. What is hidden anywhere is hidden by this list. */
export const SECRETS = Object.entries<Variable<unknown>>(variables).flatMap(([key, { name, secret }]) =>
  secret ? [{ key, name }] : [],
);

export type Values = { [K in keyof typeof variables]: (typeof variables)[K] extends Variable<infer T> ? T : never };

/** All settings, parsed and frozen; `production` is NODE_ENV=production, `redisCa` what REDIS_CA_FILE holds, `dev` is set by `bosun dev`. */
export type Config = Readonly<Values> & ConfigFields & Readonly<{ production: boolean; redisCa?: string; dev?: DevSettings }>;
