/**
 * From this worker to the primary, and back.
 */
import type { ExitCode, ToPrimary, ToWorker } from '../messages.ts';
import { isEnvelope, isInternal, seal } from '../protocol/envelope.ts';
import { parseToWorker } from '../protocol/message-shapes.ts';
import { MalformedError } from '../protocol/shapes.ts';

const send = process.send?.bind(process);

/** Calls `onMessage` with each message of the primary; 'message' listeners of the app never see one. */
export function listenToPrimary(onMessage: (message: ToWorker) => void, onMalformed: (error: MalformedError) => void): void {
  // An event of Node.js that its types leave out.
  process.on('internalMessage' as string, (message: unknown) => {
    if (!isEnvelope(message)) return;
    try {
      onMessage(parseToWorker(message.message));
    } catch (error) {
      if (!(error instanceof MalformedError)) throw error;
      onMalformed(error);
    }
  });
}

/**
 * The app's own `process.send` goes nowhere: the primary drops what it does not know, and would have to read it first. What comes with
 * a handle is sent all the same, since the sender counts on it that the handle is taken; the primary closes it.
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
  // Without a primary there is nobody to tell, and this process is about to end.
  if (process.connected && send !== undefined) send(seal(message), undefined, undefined, onWritten);
  else onWritten();
}

/** Ends this process once all that was told is in the pipe. */
export function sayByeAndExit(code: ExitCode): void {
  tell({ type: 'bye' }, () => process.exit(code));
}
