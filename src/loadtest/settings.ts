/**
 * The settings of `make loadtest`: a table of variables, validated like the kit's own.
 */
import { ConfigError, type Environment, readConfig } from '../config/config.ts';
import { anyOf, Expected, type Parser, text, wholeNumber } from '../config/parse.ts';

export const SCENARIOS = [
  'steady',
  'newconn',
  'mixed',
  'rolling-restart',
  'crash',
  'policies',
  'sessions',
  'rollout',
  'spike',
  'saturate',
] as const;
export type ScenarioName = (typeof SCENARIOS)[number];

export interface Settings {
  scenario: ScenarioName;
  /** Of the measurement, without the warm-up; per policy in `policies`. */
  durationSeconds: number;
  /** Requests per second, open loop; 0: as fast as the connections go. */
  rate: number;
  connections: number;
  /** Undefined: the stack on PORT and ADMIN_PORT of this machine. */
  url: URL | undefined;
  stack: 'auto' | 'compose' | 'local';
  /** Folder of report.html and result.json. */
  out: string;
  /** An earlier result.json. */
  compare: string | undefined;
  /** `saturate`: the limit of p99. */
  p99TargetMs: number;
  port: number;
  adminPort: number;
  /** The stack's ADMIN_TOKEN, if it has one. */
  adminToken: string | undefined;
  controlSocket: string | undefined;
}

const httpUrl: Parser<URL> = value => {
  const url = URL.canParse(value) ? new URL(value) : undefined;
  if (url?.protocol !== 'http:') throw new Expected('an http:// URL');
  return url;
};

const port: Parser<number> = wholeNumber(1, 65535);

const rows = {
  SCENARIO: { parse: anyOf(SCENARIOS), fallback: 'steady' },
  DURATION: { parse: wholeNumber(1, 3600), fallback: '10' },
  RATE: { parse: wholeNumber(0, 100_000), fallback: '0' },
  CONNECTIONS: { parse: wholeNumber(1, 1000), fallback: '20' },
  STACK: { parse: anyOf(['auto', 'compose', 'local']), fallback: 'auto' },
  OUT: { parse: text, fallback: 'loadtest' },
  P99_TARGET_MS: { parse: wholeNumber(1, 60_000), fallback: '100' },
  PORT: { parse: port, fallback: '3000' },
  ADMIN_PORT: { parse: port, fallback: '9090' },
} satisfies Record<string, { parse: Parser<unknown>; fallback: string }>;

/** @throws ConfigError with all problems at once */
export function readSettings(environment: Environment): Settings {
  const problems: string[] = [];
  const read = <T>(name: string, parse: Parser<T>, source: string): T | undefined => {
    try {
      return parse(source);
    } catch (error) {
      if (!(error instanceof Expected)) throw error;
      problems.push(`${name} must be ${error.message}, got ${JSON.stringify(source)}`);
      return undefined;
    }
  };
  const row = <K extends keyof typeof rows>(name: K) => {
    const { parse, fallback } = rows[name];
    return read(name, parse as Parser<ReturnType<(typeof rows)[K]['parse']>>, environment[name] || fallback);
  };
  const settings = {
    scenario: row('SCENARIO'),
    durationSeconds: row('DURATION'),
    rate: row('RATE'),
    connections: row('CONNECTIONS'),
    url: environment.URL ? read('URL', httpUrl, environment.URL) : undefined,
    stack: row('STACK'),
    out: row('OUT'),
    compare: environment.COMPARE || undefined,
    p99TargetMs: row('P99_TARGET_MS'),
    port: row('PORT'),
    adminPort: row('ADMIN_PORT'),
    controlSocket: environment.CONTROL_SOCKET || undefined,
  };
  if (problems.length > 0) throw new ConfigError(problems);
  // A stack started here would reject an invalid environment: report that before anything is started.
  const { adminToken } = readConfig(environment);
  return { ...settings, adminToken } as Settings;
}

/** The command that repeats this run. */
export function commandOf(environment: Environment): string {
  const names = [...Object.keys(rows), 'URL', 'COMPARE', 'NODE_CLUSTER_WORKERS', 'NODE_CLUSTER_SCHED_POLICY', 'APP_MODULE'];
  const given = names.flatMap(name => (environment[name] ? [`${name}=${quote(environment[name])}`] : []));
  return [...given, 'make loadtest'].join(' ');
}

function quote(value: string): string {
  return /^[\w./:%,+-]+$/.test(value) ? value : `'${value.replaceAll("'", "'\\''")}'`;
}
