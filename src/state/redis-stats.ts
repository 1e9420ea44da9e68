/**
 * What a process measures of its Redis: commands, failures, new connections, and how long answers take. Every connection of the process is
 * watched, its own handshake left out.
 */
import type { Cluster, Command } from 'ioredis';
import { REDIS_BUCKETS_S, type RedisCounters, type RedisRefusal } from '../protocol/messages.ts';
import type { RedisClient } from './redis.ts';
import { Refusals } from './refusals.ts';
import { ProtocolError } from './reply-guard.ts';

const counters: RedisCounters = {
  commands: 0,
  errors: 0,
  reconnects: 0,
  faults: 0,
  sumSeconds: 0,
  counts: REDIS_BUCKETS_S.map(() => 0).concat(0),
};

const refusals = new Refusals();

/** What Redis currently refuses to this process. */
export const redisRefusals = (): RedisRefusal[] => refusals.current;

/** Asked only for information about Redis: a missing permission is not a fault. */
const OPTIONAL = 'info';

/** Of this process since its start. */
export const redisCounters = (): RedisCounters => ({ ...counters, counts: [...counters.counts] });

export function watchRedis(client: RedisClient): void {
  client.on('reconnecting', () => counters.reconnects++);
  client.on('error', error => {
    if (error instanceof ProtocolError) counters.faults++;
  });
  const sender: Pick<Cluster, 'sendCommand'> = client;
  const send = sender.sendCommand.bind(client);
  // ioredis' tracing channel knows nothing of commands that fail for want of a connection, and copies every argument.
  sender.sendCommand = (command: Command, ...rest) => {
    const result = send(command, ...rest);
    if (client.status === 'connect') return result; // the handshake
    const sentAt = performance.now();
    counters.commands++;
    command.promise.then(
      () => {
        answered(performance.now() - sentAt);
        refusals.worked(command.name);
      },
      error => {
        counters.errors++;
        if (command.name !== OPTIONAL) refusals.failed(command.name, messageOf(error));
      },
    );
    return result;
  };
}

const messageOf = (error: unknown) => (error instanceof Error ? error.message : '');

function answered(ms: number): void {
  const seconds = ms / 1000;
  counters.sumSeconds += seconds;
  const bucket = REDIS_BUCKETS_S.findIndex(bound => seconds <= bound);
  const index = bucket === -1 ? REDIS_BUCKETS_S.length : bucket;
  counters.counts[index] = (counters.counts[index] ?? 0) + 1;
}
