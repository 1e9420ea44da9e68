/**
 * Whether the app has anything left to do. Under plain Node.js its process would end then; here the channel to the primary keeps it alive.
 */

/** Nothing is left that could go on. */
export const IDLE: unique symbol = Symbol('idle');

/** Resolves as `work` does, or with IDLE once nothing is left that could settle it. */
export async function whileBusy<T>(work: Promise<T>): Promise<T | typeof IDLE> {
  const { promise: idle, resolve } = Promise.withResolvers<typeof IDLE>();
  const onIdle = () => {
    process.channel?.ref();
    // In a turn of its own: what follows may wait again, and Node.js emits the event once a turn.
    setImmediate(resolve, IDLE);
  };
  process.once('beforeExit', onIdle);
  process.channel?.unref();
  try {
    return await Promise.race([work, idle]);
  } finally {
    process.off('beforeExit', onIdle);
    process.channel?.ref();
  }
}
