/**
 * How the process of a worker is started: its Node.js options, and the arrangement that the system ends it with its primary.
 */
import cluster, { type Worker } from 'node:cluster';
import { accessSync, constants, existsSync, readFileSync } from 'node:fs';
import { delimiter, isAbsolute, join } from 'node:path';

/**
 * Opens no inspector. When SIGUSR1 opens it, its secret path goes only to standard error, which the primary reads; no HTTP client
 * gets a list.
 */
const HIDDEN_INSPECTOR = '--inspect-publish-uid=stderr';
const OPENS_INSPECTOR = /^--inspect(?:[-_](?:brk|wait))?(?:=|$)/;

/** Whether the user has opened the inspector of every worker, on its command line or in its NODE_OPTIONS. */
export function isInspected(commandLine: readonly string[], nodeOptions: string): boolean {
  return [...commandLine, ...nodeOptions.split(/\s+/)].some(option => OPENS_INSPECTOR.test(option));
}

/** For later workers: the file that they run, and the Node.js options. */
export function setUpWorkers(entry: string, commandLine: readonly string[], nodeOptions: string): void {
  // node:cluster adds --inspect-port, counted up from 9229, if it finds any --inspect… option; 0 means a free port.
  const isHidden = !isInspected(commandLine, nodeOptions);
  const execArgv = isHidden ? [...commandLine, HIDDEN_INSPECTOR] : [...commandLine];
  cluster.setupPrimary({ exec: entry, execArgv, ...(isHidden && { inspectPort: 0 }) });
}

/** PR_SET_PDEATHSIG, which survives the exec that follows: the process keeps its id and its descriptors. */
const WITH_PRIMARY = ['--pdeathsig', 'KILL'];
/** The exit codes of a setpriv that fails before the exec: the next worker starts without it. */
const SETPRIV_FAILED = [126, 127];

let setpriv: string | undefined | null = null;

/** @throws the system's error, for some errors; others are emitted by the worker */
export function forkWorker(environment: NodeJS.ProcessEnv): Worker {
  if (setpriv === null) setpriv = findSetpriv();
  if (setpriv === undefined) return cluster.fork(environment);
  const { execPath } = process;
  const { execArgv = [] } = cluster.settings;
  // node:cluster runs process.execPath with these, and looks at both before it returns.
  process.execPath = setpriv;
  cluster.settings.execArgv = [...WITH_PRIMARY, execPath, ...execArgv];
  try {
    const worker = cluster.fork(environment);
    worker.process.once('exit', code => {
      if (code !== null && SETPRIV_FAILED.includes(code) && existsSync(execPath)) setpriv = undefined;
    });
    worker.process.once('error', () => {
      setpriv = null; // may have been removed: searched again
    });
    return worker;
  } finally {
    process.execPath = execPath;
    cluster.settings.execArgv = execArgv;
  }
}

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
