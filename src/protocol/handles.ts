/**
 * Connections that are sent between the primary and its workers, as handles of libuv: Node.js sends them as they are. The public way, a `net.Socket`,
 * loses bytes: the process that receives one begins to read from it.
 */
import { isInternal } from './messages.ts';

/** Not read from. */
export interface ConnectionHandle {
  readonly constructor: { readonly name: 'TCP' | 'Pipe' };
  close(): void;
}

export function isConnection(handle: unknown): handle is ConnectionHandle {
  return typeof handle === 'object' && handle !== null && ['TCP', 'Pipe'].includes(handle.constructor.name) && 'close' in handle;
}

/** Otherwise a socket or server that was sent with a message would stay open in this process. */
export function closeHandle(handle: unknown): void {
  if (typeof handle !== 'object' || handle === null) return;
  if ('destroy' in handle && typeof handle.destroy === 'function') handle.destroy();
  else if ('close' in handle && typeof handle.close === 'function') handle.close();
}

/**
 * The message of a connection that did not arrive with it: this process may open no more files. Node.js sends it back to nobody, and the sender still
 * has the connection.
 */
export function messageWithoutHandle(message: unknown, handle: unknown): unknown {
  if (!isInternal(message) || message.cmd !== 'NODE_HANDLE' || (handle ?? undefined) !== undefined) return undefined;
  return 'msg' in message ? message.msg : undefined;
}
