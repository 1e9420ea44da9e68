/**
 * The start of a worker: what its process is started with, and the fork. The system ends it with its primary if it can; otherwise the next
 * start finds here the workers of a dead primary that cannot notice its end, because they hang or are stopped, and so hold the port.
 */
import cluster, { type Worker } from 'node:cluster';
import { accessSync, constants, existsSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Environment } from '../config/config.ts';
import { type Loading, loadingEnvironment, serviceEnvironment, workerSocketsEnvironment } from '../config/inherited.ts';
import type { Service } from '../config/service.ts';
import type { LogSource } from '../log/log.ts';

export interface SpawnSettings {
  id: number;
  /** The file that it runs, and its working directory. */
  entry: string;
  directory: string;
  loading: Loading;
  /** Node.js options: on its command line, with its heap, and in its NODE_OPTIONS. */
  commandLine: readonly string[];
  nodeOptions: string;
  /** Of the operator, with `.env`. */
  environment: Environment;
  /** The secrets that the primary has read from files, and the whole REDIS_URL: they win over the environment. */
  secrets: Environment;
  service: Service;
  /** For OpenTelemetry, with what the operator has set. */
  resource: Environment;
  /** The folder of the workers' own sockets; undefined without NODE_CLUSTER_STICKY. */
  workerSockets: string | undefined;
  /** The colours of the output; the variables of the operator win. */
  colours: Environment;
  /** Folder of compiled code; NODE_COMPILE_CACHE of the operator wins. */
  compileCache: string;
  /** Descriptors of the primary that it inherits, and the variables that say which. */
  inherited: { fds: readonly number[]; environment: Environment };
  /** Its primary: the process, the port that it holds, and Node.js itself. */
  primary: { pid: number; port: number; execPath: string };
  /** The file of a setpriv that has `--pdeathsig`, if there is one. */
  setpriv: string | undefined;
  /** It opens an inspector for a debugger by itself, later. */
  isInspected?: boolean;
}

export interface SpawnOptions {
  /** The program that is started, in place of process.execPath. */
  execPath: string;
  cluster: {
    exec: string;
    cwd: string;
    execArgv: string[];
    stdio: ('inherit' | 'pipe' | 'ipc' | number)[];
    inspectPort: number | undefined;
  };
  environment: NodeJS.ProcessEnv;
}

/** In the environment of a worker, but not of its child processes: its primary and the port. */
const PRIMARY_VARIABLE = 'BOSUN_PRIMARY';
const MARK = new RegExp(`(?:^|\0)${PRIMARY_VARIABLE}=(\\d+):(\\d+)\0`);

/**
 * Opens no inspector. When SIGUSR1 opens it, its secret path goes only to standard error, which the primary reads; no HTTP client
 * gets a list.
 */
const HIDDEN_INSPECTOR = '--inspect-publish-uid=stderr';
const OPENS_INSPECTOR = /^--inspect(?:[-_](?:brk|wait))?(?:=|$)/;

/** PR_SET_PDEATHSIG, which survives the exec that follows: the process keeps its id and its descriptors. */
const WITH_PRIMARY = ['--pdeathsig', 'KILL'];
/** The exit codes of a setpriv that fails before the exec: the next worker starts without it. */
const SETPRIV_FAILED = [126, 127];

/** Whether the user has opened the inspector of every worker, on its command line or in its NODE_OPTIONS. */
export function isInspected(commandLine: readonly string[], nodeOptions: string): boolean {
  return [...commandLine, ...nodeOptions.split(/\s+/)].some(option => OPENS_INSPECTOR.test(option));
}

/** What a worker is started with. Pure. */
export function spawnOptions(settings: SpawnSettings): SpawnOptions {
  const { id, commandLine, nodeOptions, inherited, primary, setpriv } = settings;
  const isHidden = !(settings.isInspected || isInspected(commandLine, nodeOptions));
  const options = isHidden ? [...commandLine, HIDDEN_INSPECTOR] : [...commandLine];
  return {
    execPath: setpriv ?? primary.execPath,
    cluster: {
      exec: settings.entry,
      cwd: settings.directory,
      execArgv: setpriv === undefined ? options : [...WITH_PRIMARY, primary.execPath, ...options],
      // After standard input, output, error and the channel come the descriptors that balancing numbers.
      stdio: ['inherit', 'pipe', 'pipe', 'ipc', ...inherited.fds],
      // node:cluster adds --inspect-port, counted up from 9229, if it finds any --inspect… option; 0 means a free port.
      inspectPort: isHidden ? 0 : undefined,
    },
    environment: {
      NODE_COMPILE_CACHE: settings.compileCache,
      ...settings.colours,
      ...settings.environment,
      ...settings.resource,
      ...settings.secrets,
      APP_MODULE: settings.loading.module,
      ...loadingEnvironment(settings.loading),
      ...serviceEnvironment(settings.service),
      ...workerSocketsEnvironment(settings.workerSockets),
      NODE_OPTIONS: nodeOptions,
      BOSUN_WORKER_ID: String(id),
      ...inherited.environment,
      [PRIMARY_VARIABLE]: `${primary.pid}:${primary.port}`,
    },
  };
}

let setpriv: string | undefined | null = null;

/** The setpriv with which to start the next worker. */
export function currentSetpriv(): string | undefined {
  if (setpriv === null) setpriv = findSetpriv();
  return setpriv;
}

/** @throws the system's error, for some errors; others are emitted by the worker */
export function forkWorker({ execPath, cluster: settings, environment }: SpawnOptions): Worker {
  // For ports that the app opens itself: its workers accept there, the primary never does.
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  cluster.setupPrimary(settings);
  const { execPath: node } = process;
  // node:cluster runs process.execPath, and looks at it before it returns.
  process.execPath = execPath;
  try {
    const worker = cluster.fork(environment);
    if (execPath === node) return worker;
    worker.process.once('exit', code => {
      if (code !== null && SETPRIV_FAILED.includes(code) && existsSync(node)) setpriv = undefined;
    });
    worker.process.once('error', () => {
      setpriv = null; // may have been removed: searched again
    });
    return worker;
  } finally {
    process.execPath = node;
  }
}

/**
 * Forks a worker whose WorkerProcess is still being loaded. What it writes meanwhile, and why it did not start, is kept until the function that
 * this returns is called.
 * @returns a function that returns the worker, or throws the system's error
 */
export function forkAhead(options: SpawnOptions): () => Worker {
  let failed: Error | undefined;
  let worker: Worker;
  const onError = (error: Error) => {
    failed ??= error;
  };
  try {
    worker = forkWorker(options).once('error', onError);
  } catch (error) {
    return () => {
      throw error;
    };
  }
  const outputs = [worker.process.stdout, worker.process.stderr].flatMap(output => output ?? []);
  // At the exit of a process, Node.js discards the output that nobody reads.
  for (const output of outputs) output.on('readable', keepUnread);
  return () => {
    worker.off('error', onError);
    for (const output of outputs) output.off('readable', keepUnread);
    if (failed !== undefined && worker.process.pid === undefined) throw failed;
    return worker;
  };
}

const keepUnread = () => undefined;

/**
 * The setpriv of util-linux 2.33 or newer. BusyBox' lacks the option, which a string in the program shows without running it. The first process of
 * a container does not need it: the kernel ends all others with it.
 */
function findSetpriv(): string | undefined {
  if (process.platform !== 'linux' || process.pid === 1) return undefined;
  const folders = (process.env.PATH ?? '').split(delimiter).filter(isAbsolute);
  const files = folders.map(folder => join(folder, 'setpriv'));
  return files.find(file => {
    try {
      accessSync(file, constants.X_OK);
      return readFileSync(file).includes('pdeathsig');
    } catch {
      return false;
    }
  });
}

/** A killed process ends at once, unless the machine is overloaded. */
const GONE_TIMEOUT_MS = 5000;
const POLL_EVERY_MS = 20;

interface Orphan {
  pid: number;
  primary: number;
  startTime: string;
}

/** Ends the workers that a dead primary has left on `port`; resolves with their number when they have ended. Finds none without /proc. */
export async function endOrphans(port: number, log: LogSource): Promise<number> {
  const orphans = processIds().flatMap(pid => orphanWith(pid, port) ?? []);
  for (const { pid, primary, startTime } of orphans) {
    if (stateOf(pid)?.startTime !== startTime) continue; // another process by now
    process.kill(pid, 'SIGKILL');
    log().warn({ event: 'orphan.ended', workerPid: pid, primaryPid: primary });
  }
  const deadline = performance.now() + GONE_TIMEOUT_MS;
  const isLeft = ({ pid, startTime }: Orphan) => stateOf(pid)?.startTime === startTime;
  while (orphans.some(isLeft) && performance.now() < deadline) await sleep(POLL_EVERY_MS);
  return orphans.length;
}

/** A worker of our user in our namespace whose parent is no longer its primary: the kernel reparents a process when its parent dies. */
function orphanWith(pid: number, port: number): Orphan | undefined {
  try {
    if (pid === process.pid || statSync(`/proc/${pid}`).uid !== process.getuid?.()) return undefined;
    const [, primary, itsPort] = MARK.exec(readFileSync(`/proc/${pid}/environ`, 'latin1')) ?? [];
    const state = stateOf(pid);
    if (primary === undefined || Number(itsPort) !== port || state === undefined || state.parent === Number(primary))
      return undefined;
    if (readlinkSync(`/proc/${pid}/ns/pid`) !== readlinkSync('/proc/self/ns/pid')) return undefined; // another pid namespace
    return { pid, primary: Number(primary), startTime: state.startTime };
  } catch {
    return undefined; // it has ended, or we may not read it
  }
}

/** Undefined once it has ended with all its threads: the last one closes the port. A process id may be reused, with another start time. */
function stateOf(pid: number): { parent: number; startTime: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state = 'X', parent] = fields;
    const hasEnded = /[ZX]/.test(state) && readdirSync(`/proc/${pid}/task`).length <= 1;
    return hasEnded ? undefined : { parent: Number(parent), startTime: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

function processIds(): number[] {
  try {
    return readdirSync('/proc').map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}
