/**
 * The envelope of the kit's messages between the primary and its workers. The app shares the channel: what it sends
 * with `process.send` has no envelope, and its `process.on('message')` sees none.
 */

/**
 * node:child_process emits a message whose `cmd` begins with NODE_ as 'internalMessage' and not as 'message', on both sides; node:cluster
 * uses the same way. No 'message' listener of an app, of node:cluster or of a library sees it.
 */
const CMD = 'NODE_BOSUN';

export interface Envelope<T> {
  cmd: typeof CMD;
  message: T;
}

export const seal = <T>(message: T): Envelope<T> => ({ cmd: CMD, message });

/** Whether it has the envelope. Its content is not trusted: it must be parsed. */
export function isEnvelope(message: unknown): message is Envelope<unknown> {
  return isInternal(message) && message.cmd === CMD;
}

/** Whether node:child_process keeps it from 'message' listeners. */
export function isInternal(message: unknown): message is { cmd: string } {
  if (typeof message !== 'object' || message === null || !('cmd' in message)) return false;
  return typeof message.cmd === 'string' && message.cmd.startsWith('NODE_');
}
