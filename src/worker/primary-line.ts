/**
 * From this worker to the primary, and back.
 */

import { flushWorkerOutput } from '../log/log.ts';
import { isEnvelope, isInternal, seal } from '../protocol/envelope.ts';
import { parseToWorker } from '../protocol/message-shapes.ts';
import type { ExitCode, ToPrimary, ToWorker } from '../protocol/messages.ts';

const send = process.send?.bind(process);

/** The message of the primary in `raw`, which came over the channel; undefined for one of Node.js. @throws MalformedError */
export function messageIn(raw: unknown): ToWorker | undefined {
  return isEnvelope(raw) ? parseToWorker(raw.message) : undefined;
}

/**
 * Disables the app's own `process.send`: the primary would only parse and drop the messages. A message with
 * a handle is still sent, because the sender relies on the handle being taken; the primary closes it.
 */
export function dropAppMessages(onFirst: () => void): void {
  if (send === undefined) return;
  let isFirst = true;
  process.send = (message: unknown, ...rest: unknown[]) => {
    const [handle] = rest;
    if (isInternal(message) || (typeof handle === 'object' && handle !== null))
      return Reflect.apply(send, process, [message, ...rest]);
    if (isFirst) onFirst();
    isFirst = false;
    const callback = rest.find(argument => typeof argument === 'function');
    if (callback !== undefined) process.nextTick(callback, null);
    return true;
  };
}

export function tell(message: ToPrimary, onWritten: () => void = () => undefined): void {
  // Without a primary there is no receiver, and this process is about to end.
  if (process.connected && send !== undefined) send(seal(message), undefined, undefined, onWritten);
  else onWritten();
}

/** Ends this process once all messages and log lines are in the pipes. */
export function sayByeAndExit(code: ExitCode): void {
  tell({ type: 'bye' }, () => void flushWorkerOutput().then(() => process.exit(code)));
}
