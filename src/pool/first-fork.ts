/**
 * What the first worker needs to start, and nothing else: it is forked before the rest of the primary is loaded, so that both load at the same
 * time. Every file that this one imports delays the first answer.
 */
import type { Worker } from 'node:cluster';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Balancing } from '../balancing/balancing.ts';
import { addressOf, PortError } from '../balancing/listener.ts';
import { moduleFile } from '../config/app-module.ts';
import { type Config, ConfigError, isSet } from '../config/config.ts';
import type { Loading } from '../config/inherited.ts';
import { versionOf } from '../config/service.ts';
import { fileIn } from '../config/working-directory.ts';
import { createLog, type LogSource } from '../log/log.ts';
import { colourEnvironment, LogOutputs } from '../log/output.ts';
import { ExitCode } from '../protocol/exit.ts';
import { type Detected, detect } from '../resources/sizing.ts';
import type { InspectorPorts } from './inspector-ports.ts';
import { resourceAttributes } from './resource-attributes.ts';
import { Settings } from './settings.ts';
import { currentSetpriv, endOrphans, forkAhead, type SpawnOptions, type SpawnSettings, spawnOptions } from './spawn.ts';

/** What main.ts knows of this installation. */
export interface Installation {
  /** The file that a worker runs. */
  entry: string;
  /** Folder of compiled code: a worker then starts without stripping types (see main.ts). */
  compileCache: string;
}

type Varying = Pick<SpawnSettings, 'commandLine' | 'nodeOptions' | 'loading' | 'inherited' | 'isInspected'>;

/** What every worker starts with. */
export interface Prepared {
  settings: Settings;
  detected: Detected;
  balancing: Balancing;
  outputs: LogOutputs;
  log: LogSource;
  inspectorPorts: InspectorPorts | undefined;
  /** What the process of a worker, or of BEFORE_START, is started with. */
  spawnOptionsOf: (id: number, generation: number, varying: Varying) => SpawnOptions;
  /** The file of BEFORE_START. */
  beforeStart: string | undefined;
  /** The process of the first worker, which is starting; undefined where something else comes first. @throws the system's error */
  first: (() => Worker) | undefined;
}

/**
 * Reads the settings, sizes the pool, takes the port and forks the first worker, unless BEFORE_START or an inspector's port comes first.
 * @throws ConfigError, PortError
 */
export async function prepare({ entry, compileCache }: Installation): Promise<Prepared> {
  const settings = new Settings();
  const { config, release: first } = settings;
  const outputs: LogOutputs = new LogOutputs(
    (stream, lines) => log().warn({ event: 'log.dropped', stream, lines }),
    config.dev === undefined ? 'terminal' : config.dev.json ? 'json' : 'developer',
  );
  const log = createLog(config.logLevel, { pid: process.pid }, line => outputs.writeOwn(line));
  const detected = detect(config.workers, settings.nodeOptions, config.sizingRoot);
  if (detected.refusal !== undefined) throw new ConfigError([detected.refusal]);
  const isPortSet = isSet(settings.environment, 'port');
  const balancing = await balance(config, isPortSet, detected.sizing.workers, log);
  const inspectorPorts = await inspectorPortsOf(config);
  const workerSockets = await workerSocketsOf(config);
  const spawnOptionsOf: Prepared['spawnOptionsOf'] = (id, generation, varying) => {
    const { release, service, environment } = settings;
    const port = isPortSet ? config.port : balancing.port;
    return spawnOptions({
      id,
      entry: fileIn(release, first, entry),
      directory: release.directory,
      environment,
      secrets: settings.secrets,
      service,
      resource: resourceAttributes(
        { service: service.name, version: versionOf(release.module), host: hostname(), port, worker: id, generation },
        environment,
      ),
      workerSockets,
      colours: colourEnvironment(process.env),
      compileCache,
      primary: { pid: process.pid, port, execPath: process.execPath },
      setpriv: currentSetpriv(),
      ...varying,
    });
  };
  const beforeStart = config.beforeStart === undefined ? undefined : moduleFile(config.beforeStart, first.directory);
  const forkFirst = () => {
    const { workerCommandLine: commandLine, nodeOptions } = detected;
    const loading: Loading = { module: settings.release.module, asMain: false };
    return forkAhead(spawnOptionsOf(1, 1, { commandLine, nodeOptions, loading, inherited: balancing.inherited }));
  };
  return {
    settings,
    detected,
    balancing,
    outputs,
    log,
    inspectorPorts,
    spawnOptionsOf,
    beforeStart,
    first: beforeStart === undefined && inspectorPorts === undefined ? forkFirst() : undefined,
  };
}

/** Loaded only for `bosun dev --inspect`. */
async function inspectorPortsOf({ dev }: Config): Promise<InspectorPorts | undefined> {
  if (dev?.inspect === undefined) return undefined;
  const { InspectorPorts } = await import('./inspector-ports.ts');
  return new InspectorPorts(dev.inspect);
}

/** Loaded only for NODE_CLUSTER_STICKY. */
async function workerSocketsOf(config: Config): Promise<string | undefined> {
  if (config.sticky === undefined) return undefined;
  const { createWorkerSockets } = await import('./worker-sockets.ts');
  return createWorkerSockets(config);
}

const TAKEN_PORT_RETRY_MS = 200;

async function balance({ policy, host, port }: Config, isPortSet: boolean, workers: number, log: LogSource): Promise<Balancing> {
  try {
    const options = { policy, workers, address: await addressOf(host, port) };
    try {
      return await taking(port, log, () => new Balancing({ ...options, port }));
    } catch (error) {
      // The app may listen on another port than the default one.
      if (!isPortSet && isTaken(error)) return new Balancing({ ...options, port: undefined });
      throw error;
    }
  } catch (error) {
    if (error instanceof PortError) log().fatal({ event: 'primary.abort', code: ExitCode.failed, error: error.message });
    throw error;
  }
}

const isTaken = (error: unknown): boolean => error instanceof PortError && error.isTaken;

/** Tries to `take` that port, and once more if it is taken: workers that the system ended with their primary may still be closing it. */
export async function taking<T>(port: number, log: LogSource, take: () => T): Promise<T> {
  try {
    return take();
  } catch (error) {
    if (!isTaken(error)) throw error;
    if ((await endOrphans(port, log)) === 0) await sleep(TAKEN_PORT_RETRY_MS);
    return take();
  }
}
