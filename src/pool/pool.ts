/**
 * What the first worker needs to start, and nothing else: it is forked before the rest of the primary is loaded (10 ms).
 */
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Balancing } from '../balancing/balancing.ts';
import { addressOf, PortError } from '../balancing/listener.ts';
import { moduleFile } from '../config/app-module.ts';
import { type Config, isSet } from '../config/config.ts';
import { beforeStartEnvironment, type Loading } from '../config/inherited.ts';
import { versionOf } from '../config/service.ts';
import { fileIn } from '../config/working-directory.ts';
import { createLog, type LogSource } from '../log/log.ts';
import { colourEnvironment, LogOutputs } from '../log/output.ts';
import type { Emit } from '../protocol/events.ts';
import { ExitCode } from '../protocol/exit.ts';
import type { ToPrimary } from '../protocol/messages.ts';
import { type ReadText, readerBelow, type UsageFiles } from '../resources/cgroup.ts';
import { readHeadroom, readUsage } from '../resources/usage.ts';
import { Retained } from '../state/broadcast.ts';
import type { InspectorPorts } from './inspector-ports.ts';
import { Resizer } from './resizer.ts';
import { resourceAttributes } from './resource-attributes.ts';
import { Settings } from './settings.ts';
import { currentSetpriv, endOrphans, forkWorker, isInspected, type SpawnOptions, spawnOptions } from './spawn.ts';
import { Supervisor } from './supervisor.ts';
import { WorkerProcess } from './worker-process.ts';

/** What main.ts knows of this installation. */
export interface Installation {
  /** The file that a worker runs. */
  entry: string;
  /** Folder of compiled code: a worker then starts without stripping types (see main.ts). */
  compileCache: string;
  emit: Emit;
  /** Called with the log once it is there. */
  onLog: (log: LogSource) => void;
}

export interface Pool {
  settings: Settings;
  resizer: Resizer;
  supervisor: Supervisor;
  balancing: Balancing;
  retained: Retained;
  log: LogSource;
  emit: Emit;
  outputs: LogOutputs;
  /** With BEFORE_START: what its process is started with. The supervisor must be started once it has ended. */
  processBefore?: (loader?: Loading['loader']) => SpawnOptions;
}

/**
 * Reads the settings, sizes the pool, takes the port and forks.
 * @throws ConfigError, PortError
 */
export async function startPool({ entry, compileCache, emit, onLog }: Installation): Promise<Pool> {
  const settings = new Settings();
  const { config, nodeOptions, release: first } = settings;
  const outputs: LogOutputs = new LogOutputs(
    (stream, lines) => log().warn({ event: 'log.dropped', stream, lines }),
    config.dev === undefined ? 'terminal' : config.dev.json ? 'json' : 'developer',
  );
  const log = createLog(config.logLevel, { pid: process.pid }, line => outputs.writeOwn(line));
  onLog(log);
  const retained = new Retained(config.broadcastRetained);
  const resizer = new Resizer(config, nodeOptions, log, emit);
  const isPortSet = isSet(settings.environment, 'port');
  const balancing = await balance(config, isPortSet, resizer.sizing.workers, log);
  const inspectorPorts = await inspectorPortsOf(config);
  const workerSockets = await workerSocketsOf(config);
  let oomKills: OomKills | undefined;
  let loading: Omit<Loading, 'module'> = { asMain: false };
  /** Workers from now on load the app in the way that one of them has found to be needed. */
  const loadAgain = ({ asMain, loader, why }: LoadAgainMessage) => {
    if (asMain && !loading.asMain) log().info({ event: 'app.run-as-main', why });
    if (loader !== undefined && loader !== loading.loader) log().info({ event: 'app.typescript-loader', loader, why });
    loading = { asMain: loading.asMain || asMain, loader: loader ?? loading.loader };
  };
  /** What a worker and the process of BEFORE_START have in common. */
  const processSettings = (id: number, generation: number) => {
    const { release, service, environment } = settings;
    const port = isPortSet ? config.port : balancing.port;
    return {
      id,
      entry: fileIn(release, first, entry),
      directory: release.directory,
      commandLine: resizer.workerCommandLine,
      nodeOptions: resizer.workerNodeOptions,
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
    };
  };
  const beforeStart = config.beforeStart === undefined ? undefined : moduleFile(config.beforeStart, first.directory);
  const supervisor = new Supervisor(config, resizer.sizing, {
    fork: (worker, listener) => {
      const { id, generation } = worker;
      const inspector = inspectorPorts?.assign(generation);
      const { workerCommandLine: commandLine, workerNodeOptions: nodeOptions } = resizer;
      const fork = () =>
        forkWorker(
          spawnOptions({
            ...processSettings(id, generation),
            loading: { ...loading, module: settings.release.module },
            inherited: balancing.inherited,
            isInspected: inspector !== undefined,
          }),
        );
      const options = {
        fork,
        sessionKeys: () => settings.sessionKeys(),
        retained: () => retained.forWorkers,
        listeners: balancing.enter(id, resizer.sizing.workers),
        outputs: outputs.sinksOf(id),
        isInspected: inspector !== undefined || isInspected(commandLine, nodeOptions),
        inspector: inspector?.at,
      };
      const handle = new WorkerProcess(worker, options, {
        ...listener,
        onEvent: event => {
          if (event.type === 'message' && event.message.type === 'load-again') loadAgain(event.message);
          listener.onEvent(event);
        },
      });
      inspector?.take(handle);
      return handle;
    },
    bind: port => taking(port, log, () => balancing.rebind(port)),
    onChange: (handles, wanted) => balancing.follow(handles, wanted),
    headroom: () => readHeadroom(readerBelow(config.sizingRoot), resizer.limits),
    whoKilled: () => oomKills?.whoKilled() ?? 'killed',
    emit,
  });
  if (beforeStart === undefined) supervisor.start();
  oomKills = new OomKills(readerBelow(), resizer.limits.usage);
  const pool = { settings, resizer, supervisor, balancing, retained, log, emit, outputs };
  if (beforeStart === undefined) return pool;
  const processBefore = (loader: Loading['loader']) =>
    spawnOptions({
      ...processSettings(0, 1),
      loading: { module: beforeStart, asMain: false, loader },
      inherited: { fds: [], environment: beforeStartEnvironment },
    });
  return { ...pool, processBefore };
}

type LoadAgainMessage = Extract<ToPrimary, { type: 'load-again' }>;

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
async function taking<T>(port: number, log: LogSource, take: () => T): Promise<T> {
  try {
    return take();
  } catch (error) {
    if (!isTaken(error)) throw error;
    if ((await endOrphans(port, log)) === 0) await sleep(TAKEN_PORT_RETRY_MS);
    return take();
  }
}

/** Distinguishes the kernel's kills for lack of memory from others, by the counter of the cgroup. */
class OomKills {
  readonly #kills: () => number | null;
  #explained: number | null;

  constructor(read: ReadText, files: UsageFiles) {
    this.#kills = () => readUsage(read, files).oomKills;
    this.#explained = this.#kills();
  }

  /** Called once for each worker that was killed; a kill by the kernel explains one of them. */
  whoKilled(): 'oom' | 'killed' {
    const kills = this.#kills();
    if (kills === null || this.#explained === null || kills <= this.#explained) return 'killed';
    this.#explained++;
    return 'oom';
  }
}
