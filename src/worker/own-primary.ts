/**
 * Ties this worker's life to its primary.
 */

/**
 * Ends this process if its primary died before the parent-death signal was set: its parent is another process then. Removes
 * the mark from the environment, so that the app's child processes do not look like workers.
 */
export function exitWithoutPrimary(environment: NodeJS.ProcessEnv): void {
  const primary = Number.parseInt(environment.BOSUN_PRIMARY ?? '', 10);
  delete environment.BOSUN_PRIMARY;
  if (primary !== process.ppid) process.exit(1);
}
