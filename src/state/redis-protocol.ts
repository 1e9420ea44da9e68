/**
 * What comes from Redis and what goes to it, below ioredis' own interface, on every connection of this process: also on those that ioredis opens
 * for itself, to Sentinels and the nodes of a Cluster. No error and no debug output shows a password.
 */
import { inspect } from 'node:util';
import { type Command, Redis } from 'ioredis';
import dataHandler from 'ioredis/built/DataHandler.js';

interface ReplyError extends Error {
  command?: { name: string; args: unknown[] };
}

/** What we use of ioredis' DataHandler, whose types say that it is private. */
interface DataHandler {
  redis: Redis;
  returnError(error: ReplyError): void;
}

const HIDDEN = '[hidden]';
/** Commands that carry a password. */
const LOGIN = new Set(['auth', 'hello']);

const { prototype: handler } = dataHandler.default as unknown as { prototype: DataHandler };
const { returnError } = handler;

// Servers quote the arguments of a command that they do not know: a Redis that has no HELLO, the password.
handler.returnError = function (error) {
  error.message = withoutPassword(error.message, this.redis.options.password);
  returnError.call(this, error);
  if (error.command && LOGIN.has(error.command.name.toLowerCase())) error.command.args = [HIDDEN];
};

function withoutPassword(message: string, password: string | null | undefined): string {
  if (!password) return message;
  const [code = '', ...words] = message.split(' ');
  return [code, ...words.join(' ').replaceAll(password, HIDDEN).split(' ')].join(' ');
}

const { sendCommand } = Redis.prototype;

// DEBUG=ioredis:* prints every command.
Redis.prototype.sendCommand = function (command: Command, ...rest) {
  if (LOGIN.has(command.name.toLowerCase()))
    Object.defineProperties(command.args, { [inspect.custom]: { value: () => HIDDEN }, join: { value: () => HIDDEN } });
  return sendCommand.call(this, command, ...rest);
};
