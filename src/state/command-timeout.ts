/**
 * A command has failed when Redis does not answer in time, and not when this process was too busy to read the answer. Node.js runs the timers
 * that are due before it reads from sockets: after a request that computes for longer than the timeout, every other one's command would fail.
 */
import { Command } from 'ioredis';

const TIMED_OUT = 'Command timed out';

const { setTimeout: start } = Command.prototype;

// The one place through which every command's timeout goes, the handshake's too.
Command.prototype.setTimeout = function (this: Command, ms) {
  const { reject } = this;
  // An immediate runs after the sockets have been read: then a command that is answered has its answer, and to reject it changes nothing.
  this.reject = error => (error.message === TIMED_OUT ? void setImmediate(reject, error) : reject(error));
  start.call(this, ms);
};
