/**
 * The only reader of the environment: from the table of variables come the frozen Config, the error report and the README's table.
 * It knows nothing of what the values are used for.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Expected } from './parsers.ts';
import type { Variable } from './variable.ts';
import { type Config, variables } from './variables.ts';

export type { WorkerCount } from './parsers.ts';
export type { Config, Policy } from './variables.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

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
  found.push(...loginProblems(config));
  return found;
}

function loginProblems({ redisUrl, redisUsername, redisPassword, redisCaFile, redisTls, ...config }: Config): string[] {
  const found: string[] = [];
  const url = redisUrl === undefined ? undefined : new URL(redisUrl);
  if (redisPassword !== undefined && url?.password) found.push('REDIS_PASSWORD and REDIS_URL both have a password, expected one');
  if (redisUsername !== undefined && url?.username) found.push('REDIS_USERNAME and REDIS_URL both have a user, expected one');
  if (redisTls && url?.protocol === 'redis:') found.push('REDIS_TLS must go with a REDIS_URL of rediss://, got redis://');
  if (config.redisSentinelPassword !== undefined && config.redisSentinels === undefined)
    found.push('REDIS_SENTINEL_PASSWORD must go with REDIS_SENTINELS, got none');
  if (redisCaFile === undefined) return found;
  if (url?.protocol !== 'rediss:' && !(redisTls && url === undefined))
    found.push('REDIS_CA_FILE must go with a REDIS_URL of rediss://, or with REDIS_TLS, got neither');
  const content = readText(redisCaFile);
  if (typeof content !== 'string')
    found.push(`REDIS_CA_FILE must be the path of a readable file, got ${JSON.stringify(redisCaFile)}: ${content.message}`);
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

/** Descriptors that a worker inherits from its primary: none with `rr`. */
export interface Inherited {
  /** The board on which workers share their load, where the policy needs one. */
  board: number | undefined;
  /** The app's listening sockets. */
  sockets: number[];
}

export function inheritedOf({ BOSUN_BOARD: board, BOSUN_SOCKETS: sockets }: Environment): Inherited {
  return { board: board ? Number(board) : undefined, sockets: sockets ? sockets.split(',').map(Number) : [] };
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

/** The number of Redis' database; a Cluster has only 0. */
export function redisDatabase({ redisUrl }: Config): number {
  return redisUrl === undefined ? 0 : Number(new URL(redisUrl).pathname.slice(1));
}

export function usesRedis(config: Config): boolean {
  return (config.redisUrl ?? config.redisSentinels ?? config.redisClusterNodes) !== undefined;
}

/** Where the primary of the app on that port is controlled. */
export function controlSocketOf({ controlSocket }: Pick<Config, 'controlSocket'>, port: number): string {
  return controlSocket ?? join(tmpdir(), `bosun-${port}.sock`);
}
