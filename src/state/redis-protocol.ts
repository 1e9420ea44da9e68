/**
 * Guards the traffic with Redis below ioredis' own interface, on every connection of the kit, including those that ioredis opens
 * itself to Sentinels and Cluster nodes. No reply can end the process, exhaust its memory or answer the wrong command,
 * and no error or debug output shows a password.
 */
import { EventEmitter } from 'node:events';
import { type Command, Decoder, DataHandler as IoredisDataHandler, Redis } from './ioredis.ts';
import { APP_LIMITS, ProtocolError, ReplyGuard, type ReplyLimits } from './reply-guard.ts';

/** Not imported, see error-report.ts. */
const { inspect } = process.getBuiltinModule('node:util');

interface ReplyError extends Error {
  command?: { name: string; args: unknown[] };
}

/** The parts of ioredis' DataHandler and client that we use; their types declare them private. */
interface DataHandler {
  redis: Redis & {
    stream: { destroy(): void };
    commandQueue: { length: number; peekFront(): { command: { name: string; args: readonly unknown[] } } | undefined };
    condition: { protocol: number; subscriber: unknown } | null;
    recoverFromFatalError(commandError: Error, error: Error, options: { offlineQueue: boolean }): void;
  };
  dispatch(run: () => void): void;
  returnError(error: ReplyError): void;
  returnReply(reply: unknown): void;
  returnPush(reply: unknown): void;
  returnFatalError(error: Error): void;
}

const { prototype: handler } = IoredisDataHandler as unknown as { prototype: DataHandler };
const { returnError, returnReply, returnPush } = handler;

// On malformed input every waiting command fails and the connection is replaced: its bytes answer nothing.
handler.returnFatalError = function (error) {
  const fault = error instanceof ProtocolError ? error : new ProtocolError(error.message);
  const { stream } = this.redis;
  this.redis.recoverFromFatalError(fault, fault, { offlineQueue: false });
  // Destroyed and not ended: the peer would go on sending to a half-closed connection.
  stream.destroy();
};

/** An exception of a listener, passing through ioredis. */
class ListenerError extends Error {}

// ioredis rethrows every exception of its reply handling in a separate turn, where it cannot be caught.
handler.dispatch = function (run) {
  try {
    run();
  } catch (error) {
    if (error instanceof ListenerError)
      process.nextTick(() => {
        throw error.cause;
      });
    else this.returnFatalError(error as Error);
  }
};

const MESSAGES = new Set<string | symbol>([
  'message',
  'pmessage',
  'smessage',
  'messageBuffer',
  'pmessageBuffer',
  'smessageBuffer',
  'monitor',
]);
const { emit } = EventEmitter.prototype;

Redis.prototype.emit = function (this: Redis, name: string | symbol, ...args: unknown[]) {
  if (!MESSAGES.has(name)) return emit.call(this, name, ...args);
  try {
    return emit.call(this, name, ...args);
  } catch (cause) {
    throw new ListenerError('a listener threw', { cause });
  }
};

/** Pushes that ioredis reads, with their lengths. */
const PUSHES: Record<string, number> = {
  message: 3,
  smessage: 3,
  pmessage: 4,
  subscribe: 3,
  ssubscribe: 3,
  psubscribe: 3,
  unsubscribe: 3,
  sunsubscribe: 3,
  punsubscribe: 3,
};
/** Pushes that answer a command: it must be the one that waits. */
const isSubscription = (type: string) => /^[sp]?subscribe$/.test(type);
const isUnsubscription = (type: string) => /^[sp]?unsubscribe$/.test(type);

const isText = (value: unknown) => Buffer.isBuffer(value) || typeof value === 'string';

/** @throws ProtocolError where a push, or a reply that has its shape, is not as ioredis takes it to be */
function checkPush(reply: unknown, waiting: string | undefined): void {
  if (!Array.isArray(reply) || !isText(reply[0])) throw new ProtocolError('a push without a type');
  const type = String(reply[0]);
  const length = PUSHES[type];
  if (length === undefined) return;
  if (reply.length !== length) throw new ProtocolError(`a push "${type}" of ${reply.length} elements`);
  const [, channel, last] = reply;
  if (isSubscription(type) || isUnsubscription(type)) {
    const isAnswer = isText(channel) || (isUnsubscription(type) && channel === null);
    if (!isAnswer || !Number.isSafeInteger(Number(last)) || Number(last) < 0)
      throw new ProtocolError(`a malformed push "${type}"`);
    if (isSubscription(type) && waiting !== type) throw new ProtocolError(`an unexpected push "${type}"`);
  } else if (!reply.every(isText)) throw new ProtocolError(`a malformed push "${type}"`);
}

const MAX_SLOT = 16_383;
const isWhole = (value: unknown, max: number) => Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= max;

/** Checks the slots of a Cluster: ioredis reads them outside any try block, and fills each range from start to end. @throws ProtocolError */
function checkSlots(reply: unknown): void {
  const isNode = (node: unknown) => Array.isArray(node) && (node[0] === null || isText(node[0])) && isWhole(node[1], 65_535);
  const isRange = (range: unknown) =>
    Array.isArray(range) && isWhole(range[0], MAX_SLOT) && isWhole(range[1], MAX_SLOT) && range.slice(2).every(isNode);
  if (!Array.isArray(reply) || reply.length > MAX_SLOT + 1 || !reply.every(isRange))
    throw new ProtocolError('malformed slots of a Cluster');
}

const waitingOf = ({ redis }: DataHandler) => redis.commandQueue.peekFront()?.command.name.toLowerCase();

const isSlots = (command: { name: string; args: readonly unknown[] } | undefined) =>
  command?.name.toLowerCase() === 'cluster' && String(command.args[0]).toLowerCase() === 'slots';

handler.returnPush = function (reply) {
  checkPush(reply, waitingOf(this));
  returnPush.call(this, reply);
};

handler.returnReply = function (reply) {
  const waiting = waitingOf(this);
  const { condition } = this.redis;
  const isResp2Subscriber = condition?.protocol !== 3 && Boolean(condition?.subscriber);
  // ioredis puts the whole reply into its error.
  if (waiting === undefined && !isResp2Subscriber) throw new ProtocolError('a reply without a command');
  if (waiting !== undefined && (isSubscription(waiting) || isUnsubscription(waiting))) {
    // In RESP3 it comes as a push, and in RESP2 messages may come before it.
    const type = Array.isArray(reply) && isText(reply[0]) ? String(reply[0]) : '';
    if (!isResp2Subscriber && type !== waiting) throw new ProtocolError(`expected the push "${waiting}", got another reply`);
  }
  if (isResp2Subscriber && Array.isArray(reply)) checkPush(reply, waiting);
  else if (waiting !== undefined && isSubscription(waiting)) checkPush(reply, waiting);
  if (isSlots(this.redis.commandQueue.peekFront()?.command)) checkSlots(reply);
  returnReply.call(this, reply);
};

const HIDDEN = '[hidden]';
/** Commands that carry a password. */
const LOGIN = new Set(['auth', 'hello']);
/** A redirection of a Cluster client to another node. */
const REDIRECTION = /^(?:MOVED|ASK) /;
const GOOD_REDIRECTION = /^(?:MOVED|ASK) \d{1,5} \S*:\d{1,5}$/;

// Servers quote the arguments of an unknown command: a Redis without HELLO quotes the password.
handler.returnError = function (error) {
  error.message = withoutPassword(error.message, this.redis.options.password);
  if (this.redis.commandQueue.length === 0) throw new ProtocolError(`an error reply without a command: ${error.message}`);
  if (REDIRECTION.test(error.message) && !GOOD_REDIRECTION.test(error.message))
    throw new ProtocolError('a malformed redirection');
  returnError.call(this, error);
  if (error.command && LOGIN.has(error.command.name.toLowerCase())) error.command.args = [HIDDEN];
};

function withoutPassword(message: string, password: string | null | undefined): string {
  if (!password) return message;
  const [code = '', ...words] = message.split(' ');
  return [code, ...words.join(' ').replaceAll(password, HIDDEN).split(' ')].join(' ');
}

let limits = APP_LIMITS;

/** Applies to all later connections of this process. */
export function limitReplies(to: ReplyLimits): void {
  limits = to;
}

const guards = new WeakMap<Decoder, ReplyGuard>();
const { write } = Decoder.prototype;

// A decoder belongs to one connection.
Decoder.prototype.write = function (chunk: Buffer) {
  const guard = guards.get(this) ?? new ReplyGuard(limits);
  guards.set(this, guard);
  guard.check(chunk);
  write.call(this, chunk);
};

const { sendCommand } = Redis.prototype;

/** ioredis sends these itself after connecting and does not catch their rejections. */
const REPEATED = new Set(['select', 'subscribe', 'psubscribe', 'ssubscribe']);

// DEBUG=ioredis:* prints every command.
Redis.prototype.sendCommand = function (command: Command, ...rest) {
  if (REPEATED.has(command.name.toLowerCase())) command.promise.catch(() => undefined);
  if (LOGIN.has(command.name.toLowerCase()))
    Object.defineProperties(command.args, { [inspect.custom]: { value: () => HIDDEN }, join: { value: () => HIDDEN } });
  return sendCommand.call(this, command, ...rest);
};
