/**
 * The only reader of the environment: one table, a row per variable, from which the frozen Config, the error report and the
 * README's table are made. It knows nothing of what the values are used for.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  anyOf,
  type Expected,
  flag,
  hostPorts,
  httpToken,
  list,
  milliseconds,
  type Parser,
  port,
  redisUrl,
  text,
  wholeNumber,
  workerCount,
} from './parsers.ts';

export type { WorkerCount } from './parsers.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

interface Variable<T> {
  name: string;
  /** Parsed like a given value; `undefined` where unset means something of its own. */
  fallback: string | undefined;
  parse: Parser<T>;
  /** One line for the README's table. */
  help: string;
  /** What the README's table shows where the fallback alone would not be clear. */
  shown?: string;
  /** Read where `name` is unset. */
  alias?: string;
  /** May be given as `<name>_FILE`, and its value is never printed. */
  secret?: true;
  /** Fallback outside production. */
  development?: string;
}

const POLICIES = ['rr', 'none'] as const;
const LOG_LEVELS = ['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'] as const;
export type Policy = (typeof POLICIES)[number];

type Extra = Pick<Variable<unknown>, 'shown' | 'alias' | 'secret' | 'development'>;
const variable = <T>(name: string, fallback: string, parse: Parser<T>, help: string, extra: Extra = {}): Variable<T> => ({
  name,
  fallback,
  parse,
  help,
  ...extra,
});
const optional = <T>(name: string, parse: Parser<T>, help: string, extra: Extra = {}): Variable<T | undefined> => ({
  name,
  fallback: undefined,
  parse,
  help,
  ...extra,
});

const DEMO_APP = join(import.meta.dirname, 'demo', 'app.ts');

const variables = {
  workers: variable(
    'NODE_CLUSTER_WORKERS',
    'auto',
    workerCount,
    '`auto`: effective CPUs, rounded half up, at least 1, lowered until each worker has a workable heap. `max`: effective CPUs rounded up, never lowered for memory. `50%`: share of effective CPUs. `3`: exactly 3 (a warning above the CPUs). `WEB_CONCURRENCY` is read where this is unset',
    { alias: 'WEB_CONCURRENCY' },
  ),
  policy: variable(
    'NODE_CLUSTER_SCHED_POLICY',
    'rr',
    anyOf(POLICIES),
    "how connections reach the workers: `rr` and `none` are Node's own cluster policies",
  ),
  appModule: variable(
    'APP_MODULE',
    DEMO_APP,
    text,
    'the module whose default export is the app; relative to the working directory',
    {
      shown: 'the demo app',
    },
  ),
  host: variable('HOST', '0.0.0.0', text, 'address the app listens on'),
  port: variable('PORT', '3000', port, 'port the app listens on'),
  adminHost: variable('ADMIN_HOST', '0.0.0.0', text, 'address of the read-only admin port'),
  adminPort: variable('ADMIN_PORT', '9090', port, 'read-only admin port (probes, metrics, status); `0` turns it off'),
  controlSocket: optional(
    'CONTROL_SOCKET',
    text,
    'Unix socket of the control plane, mode 0600; nothing that changes state is reachable over TCP',
    {
      shown: '`bosun-<port>.sock` in the temp dir',
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
  workerHeartbeatTimeoutMs: variable(
    'WORKER_HEARTBEAT_TIMEOUT_MS',
    '30000',
    milliseconds(),
    'a worker whose event loop is blocked this long is replaced; `0` off',
  ),
  workerMaxRequests: variable('WORKER_MAX_REQUESTS', '0', wholeNumber(0), 'recycle a worker after that many requests', {
    shown: '`0` (off)',
  }),
  workerMaxRequestsJitter: variable(
    'WORKER_MAX_REQUESTS_JITTER',
    '0',
    wholeNumber(0),
    'up to that many requests more, drawn per worker, so that not all recycle at once',
  ),
  workerMaxRssMb: variable('WORKER_MAX_RSS_MB', '0', wholeNumber(0), 'recycle above this resident size (MiB), with a drain', {
    shown: '`0` (off)',
  }),
  workerMaxAgeMs: variable('WORKER_MAX_AGE_MS', '0', milliseconds(), 'recycle by age', { shown: '`0` (off)' }),
  restartIntensity: variable(
    'RESTART_INTENSITY',
    '10',
    wholeNumber(0),
    'more crashes than that within the period: the primary gives up, exit code 70',
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
  trustProxy: variable('TRUST_PROXY', 'false', flag, 'Koa’s `app.proxy`: believe `X-Forwarded-*` of the proxy in front'),
  redisUrl: optional(
    'REDIS_URL',
    redisUrl,
    '`redis://` or `rediss://` with user, password, db; unset: cookie sessions, local broadcast',
    { secret: true },
  ),
  redisSentinels: optional('REDIS_SENTINELS', hostPorts, 'Redis Sentinels, `host:port,…`, instead of `REDIS_URL`'),
  redisSentinelName: optional('REDIS_SENTINEL_NAME', text, 'the name of the master that the Sentinels watch'),
  redisClusterNodes: optional(
    'REDIS_CLUSTER_NODES',
    hostPorts,
    'nodes of a Redis Cluster, `host:port,…`, instead of `REDIS_URL`',
  ),
  sessionKeys: optional(
    'SESSION_KEYS',
    list,
    'keys that sign the session cookie, comma list, newest first; unset: with Redis one set is generated once and shared by every pod through Redis, without Redis a random one per start (with a warning)',
    { secret: true, shown: 'generated' },
  ),
  sessionCookie: variable('SESSION_COOKIE', 'koa:sess', httpToken, 'name of the session cookie'),
  sessionTtlSeconds: variable(
    'SESSION_TTL_SECONDS',
    '2592000',
    wholeNumber(1, 400 * 86400),
    'a session that is not used for this long is gone',
  ),
  diagnosticsDir: variable('DIAGNOSTICS_DIR', tmpdir(), text, 'heap snapshots, CPU profiles', { shown: 'temp dir' }),
  logLevel: variable('LOG_LEVEL', 'info', anyOf(LOG_LEVELS), 'pino levels'),
} satisfies Record<string, Variable<unknown>>;

type Values = { [K in keyof typeof variables]: (typeof variables)[K] extends Variable<infer T> ? T : never };

/** All settings, parsed and frozen; `production` is NODE_ENV=production. */
export type Config = Readonly<Values & { production: boolean }>;

/** Bad configuration: every problem, a line each. The process that throws it exits with code 78. */
export class ConfigError extends Error {
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`bad configuration:\n${problems.map(problem => `  ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

/**
 * The environment of this start: outside production the working directory's `.env` is added below the real variables.
 * `process.env` itself stays as it is, so that a later reload sees what has left `.env`.
 */
export function readEnvironment(
  real: Environment = process.env,
  folder: string = process.cwd(),
): { environment: Environment; fromDotenv: ReadonlySet<string> } {
  if (real.NODE_ENV === 'production') return { environment: real, fromDotenv: new Set() };
  const source = readText(join(folder, '.env'));
  if (typeof source !== 'string') return { environment: real, fromDotenv: new Set() };
  // Loaded only here: production never pays for it.
  const { parse } = createRequire(import.meta.url)('dotenv') as typeof import('dotenv');
  const parsed = parse(source);
  const fromDotenv = new Set(Object.keys(parsed).filter(name => real[name] === undefined));
  return { environment: { ...parsed, ...real }, fromDotenv };
}

/**
 * Parses and checks every variable. Empty means unset.
 * @throws ConfigError with all problems at once
 */
export function readConfig(environment: Environment, fromDotenv: ReadonlySet<string> = new Set()): Config {
  const problems: string[] = [];
  const production = environment.NODE_ENV === 'production';
  const values: Record<string, unknown> = { production };
  for (const [key, row] of Object.entries<Variable<unknown>>(variables)) {
    const value = given(row, environment, fromDotenv, problems);
    const fallback = production ? row.fallback : (row.development ?? row.fallback);
    const source = value?.text ?? fallback;
    if (source === undefined) continue;
    try {
      values[key] = row.parse(source);
    } catch (error) {
      const got = row.secret ? 'a value that is not (hidden: it is a secret)' : JSON.stringify(source);
      problems.push(
        `${value?.name ?? row.name} must be ${(error as Expected).message}, got ${got} (${value?.from ?? 'default'})`,
      );
    }
  }
  const config = values as Config;
  if (problems.length === 0) problems.push(...contradictions(config));
  if (problems.length > 0) throw new ConfigError(problems);
  return Object.freeze(config);
}

interface Given {
  name: string;
  text: string;
  from: string;
}

function given(
  row: Variable<unknown>,
  environment: Environment,
  fromDotenv: ReadonlySet<string>,
  problems: string[],
): Given | undefined {
  const origin = (name: string) => (fromDotenv.has(name) ? '.env' : 'environment');
  const text = environment[row.name] || undefined;
  const file = row.secret && (environment[`${row.name}_FILE`] || undefined);
  if (text !== undefined && file) {
    problems.push(
      `${row.name} and ${row.name}_FILE are both set, expected one of them (${origin(row.name)}, ${origin(`${row.name}_FILE`)})`,
    );
    return undefined;
  }
  if (text !== undefined) return { name: row.name, text, from: origin(row.name) };
  if (file) {
    const content = readText(file);
    if (typeof content === 'string') return { name: row.name, text: content.trim(), from: file };
    problems.push(
      `${row.name}_FILE must be the path of a readable file, got ${JSON.stringify(file)}: ${content.message} (${origin(`${row.name}_FILE`)})`,
    );
    return undefined;
  }
  const aliased = row.alias === undefined ? undefined : environment[row.alias] || undefined;
  return row.alias !== undefined && aliased !== undefined
    ? { name: row.alias, text: aliased, from: origin(row.alias) }
    : undefined;
}

/** What no single variable can see. */
function contradictions(config: Config): string[] {
  const found: string[] = [];
  if (config.requestTimeoutMs > 0 && config.headersTimeoutMs > config.requestTimeoutMs) {
    found.push(
      `HEADERS_TIMEOUT_MS must be at most REQUEST_TIMEOUT_MS, got ${config.headersTimeoutMs} and ${config.requestTimeoutMs}`,
    );
  }
  if (config.port !== 0 && config.port === config.adminPort) {
    found.push(`ADMIN_PORT must differ from PORT, got ${config.port} for both`);
  }
  const redis = {
    REDIS_URL: config.redisUrl,
    REDIS_SENTINELS: config.redisSentinels,
    REDIS_CLUSTER_NODES: config.redisClusterNodes,
  };
  const set = Object.entries(redis).flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (set.length > 1) found.push(`only one of ${Object.keys(redis).join(', ')} may be set, got ${set.join(' and ')}`);
  if ((config.redisSentinels === undefined) !== (config.redisSentinelName === undefined)) {
    found.push('REDIS_SENTINELS and REDIS_SENTINEL_NAME must be set together, got only one of them');
  }
  return found;
}

function readText(path: string): string | Error {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    return error as Error;
  }
}

/** The README's table of environment variables, in Markdown; a test holds the README to it. */
export function environmentTable(): string {
  const rows = Object.values<Variable<unknown>>(variables).map(row => {
    const name = row.secret ? `\`${row.name}\` or \`${row.name}_FILE\`` : `\`${row.name}\``;
    const shown = row.shown ?? (row.fallback === undefined ? 'unset' : `\`${row.fallback}\``);
    return `| ${name} | ${shown} | ${row.help} |`;
  });
  return ['| name | default | meaning |', '|---|---|---|', ...rows].join('\n');
}

/** The number that the primary gave this worker at the fork. */
export function workerIdOf(environment: Environment): number {
  return Number(environment.BOSUN_WORKER_ID ?? 0);
}

/** Where Redis is, for people, without user and password. */
export function describeRedis(config: Config): string {
  if (config.redisUrl !== undefined) {
    const { hostname, port, pathname } = new URL(config.redisUrl);
    return `${hostname}:${port || 6379}${pathname === '/' ? '' : pathname}`;
  }
  const nodes = config.redisSentinels ?? config.redisClusterNodes ?? [];
  return nodes.map(({ host, port }) => `${host}:${port}`).join(',');
}

export function usesRedis(config: Config): boolean {
  return (config.redisUrl ?? config.redisSentinels ?? config.redisClusterNodes) !== undefined;
}
