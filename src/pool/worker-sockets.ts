/**
 * The folder in which each worker has a Unix socket for the others of its pod (NODE_CLUSTER_STICKY). Nobody else may enter it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Config, ConfigError, controlSocketOf } from '../config/config.ts';

/** What the system allows for the path of a socket; macOS has the smaller limit. */
const MAX_PATH_BYTES = 103;
/** Of a name in the folder. */
const NAME_BYTES = 17;

/**
 * Creates it beside the control socket, where this process may write, with mode 0700; it is removed at the exit.
 * @throws ConfigError if it cannot be created, or its path is too long for sockets
 */
export function createWorkerSockets(config: Config): string {
  const parent = dirname(controlSocketOf(config, config.port));
  const problem = (got: string) =>
    new ConfigError([`NODE_CLUSTER_STICKY needs a folder for sockets in ${parent}, got ${got}; CONTROL_SOCKET moves it`]);
  let folder: string;
  try {
    folder = mkdtempSync(join(parent, 'bosun-workers-'));
  } catch (error) {
    throw problem(String((error as NodeJS.ErrnoException).code));
  }
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const bytes = Buffer.byteLength(folder) + NAME_BYTES;
  if (bytes > MAX_PATH_BYTES) throw problem(`a path of ${bytes} bytes where the system allows ${MAX_PATH_BYTES}`);
  return folder;
}
