/**
 * How the process of a worker is started: the options of its Node.js.
 */
import cluster from 'node:cluster';

/**
 * Opens nothing. When SIGUSR1 opens the inspector, its secret path goes to standard error only, which the primary reads, and no HTTP client
 * gets a list.
 */
const HIDDEN_INSPECTOR = '--inspect-publish-uid=stderr';
const OPENS_INSPECTOR = /^--inspect(?:[-_](?:brk|wait))?(?:=|$)/;

/** Whether the user has opened the inspector of every worker, on its command line or in its NODE_OPTIONS. */
export function isInspected(commandLine: readonly string[], nodeOptions: string): boolean {
  return [...commandLine, ...nodeOptions.split(/\s+/)].some(option => OPENS_INSPECTOR.test(option));
}

/** For the workers to come: the file that they run, and Node.js' options. */
export function setUpWorkers(entry: string, commandLine: readonly string[], nodeOptions: string): void {
  // node:cluster adds --inspect-port, by counting up from 9229, where it finds any --inspect…; 0 is a free port.
  const isHidden = !isInspected(commandLine, nodeOptions);
  const execArgv = isHidden ? [...commandLine, HIDDEN_INSPECTOR] : [...commandLine];
  cluster.setupPrimary({ exec: entry, execArgv, ...(isHidden && { inspectPort: 0 }) });
}
