/**
 * Connects to a Unix socket in a folder where others may write too, such as /tmp, but only if it belongs to this user or root. Another user
 * who planted one there would otherwise get commands, events and heap snapshots.
 */
import { once } from 'node:events';
import { lstatSync, type Stats, statSync } from 'node:fs';
import { connect, type Socket } from 'node:net';

/** The path is not a socket of this user or of root. */
export class UntrustedSocketError extends Error {
  override readonly name = 'UntrustedSocketError';
}

/**
 * Resolves when it is connected.
 * @throws UntrustedSocketError, or the error of the file system (ENOENT, EACCES) or of the connection (ECONNREFUSED)
 */
export async function connectTrusted(path: string): Promise<Socket> {
  const before = identify(path);
  const socket = connect(path);
  try {
    await once(socket, 'connect');
    // Others may be able to rename files: check that we are connected to the socket that was checked.
    const { dev, ino } = identify(path);
    if (dev !== before.dev || ino !== before.ino) throw new UntrustedSocketError(`${path} was replaced while connecting`);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function identify(path: string): Stats {
  const link = lstatSync(path);
  if (link.isSymbolicLink()) assertOwner(path, link);
  const found = statSync(path);
  if (!found.isSocket()) throw new UntrustedSocketError(`${path} must be a socket, got ${kindOf(found)}`);
  assertOwner(path, found);
  return found;
}

function assertOwner(path: string, { uid }: Stats): void {
  const own = process.geteuid?.() ?? uid; // Windows has no owners
  if (uid === own || uid === 0) return;
  throw new UntrustedSocketError(
    `${path} must belong to user ${own === 0 ? own : `${own} or 0`}, got user ${uid}; run bosun as that user`,
  );
}

function kindOf(found: Stats): string {
  if (found.isDirectory()) return 'a directory';
  return found.isFile() ? 'a file' : 'a device or pipe';
}
