/**
 * What the app still writes to a response or a connection that the kit has ended.
 */
import type { Writable } from 'node:stream';

const ended = new WeakSet<Writable>();

/** Whether the kit has ended it, and not the app. */
export const isEndedByKit = (stream: Writable): boolean => ended.has(stream);

/** `stream` takes nothing more, and calls back as if it did: its writers do not know that it has ended, and an error would end the worker. */
export function dropWrites(stream: Writable): void {
  const { end } = stream;
  ended.add(stream);
  stream.write = (...args: unknown[]) => {
    const done = callbackOf(args);
    if (done !== undefined) process.nextTick(done);
    return true;
  };
  stream.end = ((...args: unknown[]) => Reflect.apply(end, stream, [callbackOf(args)])) as Writable['end'];
}

function callbackOf(args: readonly unknown[]): (() => void) | undefined {
  return args.find(argument => typeof argument === 'function') as (() => void) | undefined;
}
