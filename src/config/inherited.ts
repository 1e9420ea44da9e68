/**
 * What processes of the kit inherit from each other, in variables that nobody else sets: a worker from its primary, and both from `bosun dev`.
 */
import type { Environment, SecretTexts } from './config.ts';
import type { Service } from './service.ts';

/** The id that the primary gave this worker. */
export function workerIdOf(environment: Environment): number {
  return Number(environment.BOSUN_WORKER_ID ?? 0);
}

/** What a project may have to run TypeScript that Node.js cannot; the first one that is installed is used. */
export const TYPESCRIPT_LOADERS = ['tsx', '@swc-node/register', 'ts-node'] as const;
export type TypeScriptLoader = (typeof TYPESCRIPT_LOADERS)[number];

/** How workers load the app. */
export interface Loading {
  /** Its file, absolute. */
  module: string;
  /** Run it as main, as `node FILE` does. */
  asMain: boolean;
  /** Load it with this, of the app's project. */
  loader?: TypeScriptLoader | undefined;
}

/** In the environment of a worker: its Loading, as JSON. */
const LOADING_VARIABLE = 'BOSUN_LOADING';

export const loadingEnvironment = (loading: Loading): Environment => ({ [LOADING_VARIABLE]: JSON.stringify(loading) });

/** In the environment of a worker: the service of its primary, as JSON. */
const SERVICE_VARIABLE = 'BOSUN_SERVICE';

export const serviceEnvironment = (service: Service): Environment => ({ [SERVICE_VARIABLE]: JSON.stringify(service) });

/** In the environment of the process of BEFORE_START: it is no worker, and no primary. */
export const BEFORE_START_VARIABLE = 'BOSUN_BEFORE_START';

export const beforeStartEnvironment: Environment = { [BEFORE_START_VARIABLE]: '1' };

/** What a worker inherits from its primary. */
export interface Inherited {
  loading: Loading;
  service: Service;
  /** The scoreboard on which workers share their load, where the policy needs one. */
  scoreboard: number | undefined;
  /** The app's listening sockets; none while another process holds the default port. */
  sockets: number[];
  /** The port of these sockets, if the app has named it (PORT is not set). */
  namedPort: number | undefined;
  /** The folder of the workers' own sockets; undefined without NODE_CLUSTER_STICKY. */
  workerSockets: string | undefined;
}

/** In the environment of a worker: the folder of the workers' own sockets. */
const WORKER_SOCKETS_VARIABLE = 'BOSUN_WORKER_SOCKETS';

export const workerSocketsEnvironment = (folder: string | undefined): Environment => ({
  [WORKER_SOCKETS_VARIABLE]: folder ?? '',
});

export function inheritedOf(environment: Environment): Inherited {
  const { BOSUN_SCOREBOARD, BOSUN_SOCKETS, BOSUN_PORT } = environment;
  const { [LOADING_VARIABLE]: loading = '{}', [SERVICE_VARIABLE]: service = '{}' } = environment;
  return {
    loading: JSON.parse(loading) as Loading,
    service: JSON.parse(service) as Service,
    scoreboard: BOSUN_SCOREBOARD ? Number(BOSUN_SCOREBOARD) : undefined,
    sockets: BOSUN_SOCKETS ? BOSUN_SOCKETS.split(',').map(Number) : [],
    namedPort: BOSUN_PORT ? Number(BOSUN_PORT) : undefined,
    workerSockets: environment[WORKER_SOCKETS_VARIABLE] || undefined,
  };
}

/** In the environment of a worker: the secrets that its primary has read from files, as JSON. */
const SECRETS_VARIABLE = 'BOSUN_SECRETS';

/** What a worker's environment adds for the secrets that its primary has read from files. */
export function secretsEnvironment(fromFiles: SecretTexts): Environment {
  return { [SECRETS_VARIABLE]: JSON.stringify(fromFiles) };
}

/** The secrets that the primary of this worker has read from files. Removes them from the environment: the app and its child processes do not see them. */
export function takeSecrets(environment: Record<string, string | undefined>): SecretTexts {
  const secrets = JSON.parse(environment[SECRETS_VARIABLE] ?? '{}') as SecretTexts;
  delete environment[SECRETS_VARIABLE];
  return secrets;
}

/** What `bosun dev` adds to the configuration. */
export interface DevSettings {
  /** Files to watch besides those that the app loads: globs, relative to the working directory. */
  watch: string[];
  /** Open the browser once the app serves. */
  open: boolean;
  /** Log JSON lines, also on a terminal. */
  json: boolean;
  /** Undefined for no inspector. */
  inspect: InspectorAddress | undefined;
}

/** Of the first worker's inspector; those of the others follow on the next ports. */
export interface InspectorAddress {
  host: string;
  port: number;
  /** Each worker waits for a debugger before it loads the app. */
  isAwaited: boolean;
}

/** Its value is the DevSettings as JSON, which `bosun dev` writes and the primary and its workers inherit. */
const DEV_VARIABLE = 'BOSUN_DEV';

export const devEnvironment = (settings: DevSettings): Record<string, string> => ({ [DEV_VARIABLE]: JSON.stringify(settings) });

/** Undefined outside `bosun dev`. */
export function devSettingsOf({ [DEV_VARIABLE]: json }: Readonly<Record<string, string | undefined>>): DevSettings | undefined {
  return json ? (JSON.parse(json) as DevSettings) : undefined;
}

/** Removes the settings from the environment of a worker: the app and its child processes do not see them. */
export function forgetDevSettings(environment: Record<string, string | undefined>): void {
  delete environment[DEV_VARIABLE];
}
