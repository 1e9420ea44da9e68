/**
 * The channel to one worker. It is the trust boundary of the primary: a message is the kit's own and is parsed, or it is dropped.
 * The app shares the channel and may send anything.
 */
import type { ChildProcess } from 'node:child_process';
import type { Worker } from 'node:cluster';
import { isEnvelope, seal } from '../protocol/envelope.ts';
import { parseToPrimary } from '../protocol/message-shapes.ts';
import type { ToPrimary, ToWorker } from '../protocol/messages.ts';

export interface ChannelListener {
  onMessage(message: ToPrimary): void;
  /** A malformed message in the kit's envelope or node:cluster's: the app forged it, or the kit has a bug. */
  onMalformed(error: Error): void;
}

export class WorkerChannel {
  readonly #worker: Worker;
  readonly #listener: ChannelListener;

  constructor(worker: Worker, listener: ChannelListener) {
    this.#worker = worker;
    this.#listener = listener;
    this.#guard(worker.process);
  }

  get isOpen(): boolean {
    return this.#worker.isConnected();
  }

  /** Drops the message if the channel is closed. `onWritten` is called in any case. */
  send(message: ToWorker, onWritten: () => void = () => undefined): void {
    if (this.isOpen) this.#worker.send(seal(message), onWritten);
    else onWritten();
  }

  /**
   * Node.js emits every message on the child process. Overridden here because its own listeners throw when the app forges one of
   * their messages (an unexpected acknowledgement, an unknown handle type), and the exception would end the primary.
   */
  #guard(child: ChildProcess): void {
    const emit = child.emit.bind(child);
    child.emit = (event: string | symbol, ...args: unknown[]) => {
      if (event !== 'message' && event !== 'internalMessage') return Reflect.apply(emit, child, [event, ...args]);
      const [message, handle] = args;
      let parsed: ToPrimary | undefined;
      try {
        if (isEnvelope(message)) parsed = parseToPrimary(message.message);
        else if (event === 'internalMessage') return emit(event, message, handle);
      } catch (error) {
        this.#listener.onMalformed(error instanceof Error ? error : new Error(String(error)));
      }
      closeHandle(handle); // the kit sends none
      if (parsed !== undefined) this.#listener.onMessage(parsed);
      return true;
    };
  }
}

/** Otherwise a socket or server sent with a message would stay open in the primary. */
function closeHandle(handle: unknown): void {
  if (typeof handle !== 'object' || handle === null) return;
  if ('destroy' in handle && typeof handle.destroy === 'function') handle.destroy();
  else if ('close' in handle && typeof handle.close === 'function') handle.close();
}
