/**
 * The only reader of the environment: from the table of variables come the frozen Config, the error report and the table of the documentation.
 * It knows nothing of what the values are used for.
 */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { devSettingsOf, forgetDevSettings, takeSecrets } from './inherited.ts';
import { type Expected, socketPathOf, type Variable } from './parse.ts';
import { loginProblems } from './redis-address.ts';
import { certificatesOf, MAX_SECRET_BYTES, readSmallFile } from './secrets.ts';
import { type Config, variables } from './variables.ts';

export type { WorkerCount } from './parse.ts';
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

/** No such file, or a folder with that name (a Python environment). */
const NO_DOTENV: ReadonlySet<unknown> = new Set(['ENOENT', 'ENOTDIR', 'EISDIR']);

/**
 * The environment of this start: outside production the working directory's `.env` is added below the real variables.
 * `process.env` itself stays as it is, so that a later reload sees what has left `.env`.
 * @throws ConfigError if the file exists but cannot be read
 */
export function readEnvironment(
  real: Environment = process.env,
  folder: string = process.cwd(),
): { environment: Environment; fromDotenv: ReadonlySet<string> } {
  if (real.NODE_ENV === 'production') return { environment: real, fromDotenv: new Set() };
  const source = readText(join(folder, '.env'));
  if (typeof source !== 'string') {
    if (!NO_DOTENV.has(source.code)) throw new ConfigError([`.env must be a readable file, got ${source.message}`]);
    return { environment: real, fromDotenv: new Set() };
  }
  // Loaded only here: production never pays for it.
  const { parse } = createRequire(import.meta.url)('dotenv') as typeof import('dotenv');
  const parsed = parse(source);
  const fromDotenv = new Set(Object.keys(parsed).filter(name => real[name] === undefined));
  return { environment: { ...parsed, ...real }, fromDotenv };
}

/** The contents of secret files, by the name of the variable. */
export type SecretTexts = Readonly<Record<string, string>>;

/** The settings of a primary, and the contents of its secret files: its workers use these even if the files change. */
export interface LoadedSettings {
  config: Config;
  fromFiles: SecretTexts;
}

/**
 * Parses and checks every variable. Empty means unset, but not for a secret: it is wanted, and the kit would go on without it.
 * @throws ConfigError with all problems at once
 */
export function readConfig(environment: Environment, fromDotenv: ReadonlySet<string> = new Set()): Config {
  return readSettings(environment, fromDotenv).config;
}

/** Like readConfig, in a worker. Removes its secrets from the environment: the app and its child processes see only those that the operator put there. */
export function readWorkerConfig(environment: Record<string, string | undefined>): Config {
  const { config } = readSettings(environment, new Set(), takeSecrets(environment));
  forgetDevSettings(environment);
  return config;
}

/** Like readConfig. */
export function readSettings(
  environment: Environment,
  fromDotenv: ReadonlySet<string>,
  inherited: SecretTexts = {},
): LoadedSettings {
  const problems: string[] = [];
  const fromFiles: Record<string, string> = {};
  const production = environment.NODE_ENV === 'production';
  const dev = devSettingsOf(environment);
  const values: Record<string, unknown> = { production, ...(dev && { dev }) };
  for (const [key, row] of Object.entries<Variable<unknown>>(variables)) {
    const value = given(row, environment, fromDotenv, inherited, problems);
    const fallback = production ? row.fallback : (row.development ?? row.fallback);
    const source = value?.text ?? fallback;
    if (source === undefined) continue;
    if (value?.isFromFile) fromFiles[row.name] = source;
    try {
      const parsed = row.parse(source);
      if (row.secret) hide(values, key, parsed);
      else values[key] = parsed;
    } catch (error) {
      const got = row.secret && source !== '' ? 'a value that is not (hidden: it is a secret)' : JSON.stringify(source);
      problems.push(
        `${value?.name ?? row.name} must be ${(error as Expected).message}, got ${got} (${value?.from ?? 'default'})`,
      );
    }
  }
  const config = values as { -readonly [K in keyof Config]: Config[K] };
  if (problems.length === 0) problems.push(...contradictions(config));
  if (config.redisCaFile !== undefined && problems.length === 0) {
    try {
      config.redisCa = certificatesOf(config.redisCaFile);
    } catch (error) {
      problems.push(`REDIS_CA_FILE must be ${(error as Expected).message}`);
    }
  }
  if (problems.length > 0) throw new ConfigError(problems);
  return { config: Object.freeze(config), fromFiles };
}

/** Sets a field that is read by its name only: it is in no copy, no JSON, no line of the log and no print of the object. */
function hide(values: object, key: string, value: unknown): void {
  Object.defineProperty(values, key, { get: () => value, enumerable: false });
}

interface Given {
  name: string;
  text: string;
  from: string;
  isFromFile?: true;
}

function given(
  row: Variable<unknown>,
  environment: Environment,
  fromDotenv: ReadonlySet<string>,
  inherited: SecretTexts,
  problems: string[],
): Given | undefined {
  const origin = (name: string) => (fromDotenv.has(name) ? '.env' : 'environment');
  const text = environment[row.name] || undefined;
  const file = row.secret && (environment[`${row.name}_FILE`] || undefined);
  const empty = [...(row.mayBeEmpty ? [] : [row.name]), `${row.name}_FILE`].find(name => row.secret && environment[name] === '');
  if (empty !== undefined) {
    problems.push(emptySecret(row, empty, origin(empty)));
    return undefined;
  }
  if (text !== undefined && file) {
    problems.push(
      `${row.name} and ${row.name}_FILE are both set, expected one of them (${origin(row.name)}, ${origin(`${row.name}_FILE`)})`,
    );
    return undefined;
  }
  if (text !== undefined) return { name: row.name, text, from: origin(row.name) };
  const known = inherited[row.name];
  if (known !== undefined) return { name: row.name, text: known, from: 'the primary', isFromFile: true };
  if (file) {
    try {
      return { name: row.name, text: readSmallFile(file, MAX_SECRET_BYTES), from: file, isFromFile: true };
    } catch (error) {
      problems.push(`${row.name}_FILE must be ${(error as Expected).message} (${origin(`${row.name}_FILE`)})`);
      return undefined;
    }
  }
  const aliased = row.alias === undefined ? undefined : environment[row.alias] || undefined;
  return row.alias !== undefined && aliased !== undefined
    ? { name: row.alias, text: aliased, from: origin(row.alias) }
    : undefined;
}

/** The problem of a secret, or the path of its file, that is set and empty. */
function emptySecret({ name, inManifests }: Variable<unknown>, variable: string, origin: string): string {
  const expected = variable === name ? 'a value' : 'the path of a file';
  const where = inManifests === undefined ? '' : `; in k8s/ it is the ${inManifests}`;
  return `${variable} must be ${expected}, or not set at all, got an empty text (${origin}${where})`;
}

/** Whether that variable is set, and not its default. */
export function isSet(environment: Environment, key: keyof typeof variables): boolean {
  const { name, alias }: Variable<unknown> = variables[key];
  return Boolean(environment[name] || (alias !== undefined && environment[alias]));
}

/** The names of the variables that differ between two configurations and cannot change at run time. */
export function fixedChanges(before: Config, after: Config): string[] {
  const rows = Object.entries<Variable<unknown>>(variables) as [keyof Config, Variable<unknown>][];
  return rows
    .filter(([key, { fixed }]) => fixed && JSON.stringify(before[key]) !== JSON.stringify(after[key]))
    .map(([, { name }]) => name);
}

/** Problems that no variable has alone. */
function contradictions(config: Config): string[] {
  const found: string[] = [];
  if (config.requestTimeoutMs > 0 && config.headersTimeoutMs > config.requestTimeoutMs) {
    found.push(
      `HEADERS_TIMEOUT_MS must be at most REQUEST_TIMEOUT_MS, got ${config.headersTimeoutMs} and ${config.requestTimeoutMs}`,
    );
  }
  const isUnix = socketPathOf(config.host) !== undefined;
  if (isUnix && config.policy === 'reuseport')
    found.push(
      `NODE_CLUSTER_SCHED_POLICY must be rr, none, least-connections or response-time with HOST=${config.host}, got reuseport: a Unix socket has no SO_REUSEPORT`,
    );
  if (!isUnix && config.port !== 0 && config.port === config.adminPort) {
    found.push(`ADMIN_PORT must differ from PORT, got ${config.port} for both`);
  }
  const redis = {
    REDIS_URL: config.redisUrl,
    REDIS_SENTINELS: config.redisSentinels,
    REDIS_CLUSTER_NODES: config.redisClusterNodes,
  };
  const set = Object.entries(redis).flatMap(([name, value]) => (value === undefined ? [] : [name]));
  if (set.length > 1)
    found.push(
      `only one of ${Object.keys(redis).join(', ')} may be set, got ${set.join(' and ')}${config.redisUrl === undefined ? '' : TAKE_BACK_URL}`,
    );
  if ((config.redisSentinels === undefined) !== (config.redisSentinelName === undefined)) {
    found.push('REDIS_SENTINELS and REDIS_SENTINEL_NAME must be set together, got only one of them');
  }
  if (config.sessionWaitReplicas > 0 && config.redisUrl === undefined && config.redisSentinels === undefined) {
    const got = config.redisClusterNodes === undefined ? 'no Redis' : 'REDIS_CLUSTER_NODES, where WAIT reaches any node';
    found.push(`SESSION_WAIT_REPLICAS needs a Redis with replicas, by REDIS_URL or REDIS_SENTINELS, got ${got}`);
  }
  found.push(...loginProblems(config));
  return found;
}

const TAKE_BACK_URL = '; an empty REDIS_URL counts as unset, also where a ConfigMap or an image sets one';

function readText(path: string): string | NodeJS.ErrnoException {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
}

/** The table of docs/reference/environment.md, in Markdown. */
export function environmentTable(): string {
  const rows = Object.values<Variable<unknown>>(variables).map(row => {
    const name = row.secret ? `\`${row.name}\` or \`${row.name}_FILE\`` : `\`${row.name}\``;
    const shown = row.shown ?? (row.fallback === undefined ? 'unset' : `\`${row.fallback}\``);
    return `| ${name} | ${shown} | ${row.help} |`;
  });
  return ['| name | default | meaning |', '|---|---|---|', ...rows].join('\n');
}

/** In the name of a control socket, which has to fit into the kernel's limit too. */
const MAX_NAME = 60;

/** The control socket of the primary whose app listens on that port, or on the Unix socket of HOST. */
export function controlSocketOf(
  { controlSocket, host = '' }: Partial<Pick<Config, 'controlSocket' | 'host'>>,
  port: number,
): string {
  const path = socketPathOf(host);
  const name = path
    ?.replace(/[^\w.]+/g, '-')
    .replace(/^-/, '')
    .slice(-MAX_NAME);
  return controlSocket ?? join(tmpdir(), `bosun-${name ?? port}.sock`);
}
