/**
 * The primary of this worker, which it does not outlive.
 */

/**
 * Ends this process where its primary has died before the system was told to end both together: its parent is another process then. Takes
 * the mark out of the environment, so that what the app starts does not look like a worker.
 */
export function exitWithoutPrimary(environment: NodeJS.ProcessEnv): void {
  const primary = Number.parseInt(environment.BOSUN_PRIMARY ?? '', 10);
  delete environment.BOSUN_PRIMARY;
  if (primary !== process.ppid) process.exit(1);
}
