/**
 * Errors of single connections, below what ioredis reports: it listens to the first error of a connection only, and of Sentinels and the
 * nodes of a Cluster it tells that they closed the connection, and not why.
 */
import { Redis } from 'ioredis';

const CLOSED = 'Connection is closed.';
const NO_SLOTS = 'Failed to refresh slots cache.';
/** What a connection has said of its end this long ago has another cause. */
const RECENT_MS = 2000;

const ignore = () => undefined;

let last = { message: CLOSED, at: Number.NEGATIVE_INFINITY };

const { silentEmit } = Redis.prototype;

// The one place through which every connection's first error goes, also those that ioredis opens for itself.
Redis.prototype.silentEmit = function (this: Redis & { stream?: NodeJS.EventEmitter }, name, argument) {
  // Without a stream it is the summary of a Cluster or of Sentinels.
  if (name === 'error' && this.stream) {
    // A TLS server that was refused for its certificate may complain of that in turn; without a listener it would end the process.
    if (!this.stream.listeners('error').includes(ignore)) this.stream.on('error', ignore);
    const { message } = argument as Error;
    if (message !== '' && message !== CLOSED) last = { message, at: performance.now() };
  }
  return silentEmit.call(this, name, argument);
};

export interface RedisError extends Error {
  code?: string;
  /** A Cluster says only that all nodes failed, and keeps to itself how. */
  lastNodeError?: RedisError;
}

/** Why there is no connection, for an operator. */
export function reasonOf({ message, code }: RedisError): string {
  const [, ofSentinel] = /^All sentinels are unreachable.* Last error: (.*)$/s.exec(message) ?? [];
  const reason = ofSentinel ?? message;
  const isKnown = performance.now() - last.at < RECENT_MS;
  const said = isKnown ? reason.replace(CLOSED, last.message).replace(NO_SLOTS, last.message) : reason;
  return `${ofSentinel === undefined ? '' : 'no Sentinel answers: '}${said || code}`;
}
