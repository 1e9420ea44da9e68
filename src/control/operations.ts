/**
 * What an operator can ask for over the control socket: each command by its name, with its parameters checked.
 */
import { accessSync, constants } from 'node:fs';
import type { History } from '../admin/history.ts';
import { type Pod, statusOf } from '../admin/status.ts';
import type { Balancing } from '../balancing/balancing.ts';
import { type Expected, workerCount } from '../config/parse.ts';
import type { LogSource } from '../log/log.ts';
import type { Resizer } from '../pool/resizer.ts';
import type { RollingRestart } from '../pool/rolling-restart.ts';
import type { Settings } from '../pool/settings.ts';
import type { Supervisor } from '../pool/supervisor.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import { OPERATOR, type Relay } from '../primary/event-bus.ts';
import type { RedisHealth } from '../primary/redis-health.ts';
import type { Broadcast } from '../protocol/messages.ts';
import { fileLimit } from '../resources/usage.ts';
import { broadcastOf } from '../state/broadcast.ts';
import type { Diagnostics } from './diagnostics.ts';
import { diagnoseDeployment, type Facts } from './doctor.ts';
import { rotateKeys } from './rotate-keys.ts';
import { ControlError, ControlSocket, type Operation } from './socket.ts';

export interface Parts {
  pod: () => Pod;
  settings: Settings;
  balancing: Balancing;
  supervisor: Supervisor;
  resizer: Resizer;
  diagnostics: Diagnostics;
  restarts: RollingRestart;
  relay: Relay;
  redis: RedisHealth;
  history: History;
}

const LONGEST_PROFILE_S = 300;
/** What somebody who watches is given of the last ten minutes: a screen has no room for more. */
const WATCHED_SAMPLES = 60;
const WATCHED_EVENTS = 30;

/** Opens the control socket with these commands; without one the server runs on, and says so. */
export async function openControlSocket(path: string, parts: Parts, log: LogSource): Promise<ControlSocket | undefined> {
  const socket: ControlSocket = new ControlSocket(
    path,
    operations(parts, () => socket),
  );
  try {
    await socket.open();
    log().info({ event: 'control.listening', path });
    return socket;
  } catch (error) {
    log().warn({ event: 'control.unavailable', path, error: (error as Error).message });
    return undefined;
  }
}

/** The commands; `socket` gives the control socket itself, which streams through. */
function operations(parts: Parts, socket: () => ControlSocket): Record<string, Operation> {
  const { pod, supervisor, resizer, diagnostics } = parts;

  const diagnose =
    (kind: 'heap-snapshot' | 'cpu-profile'): Operation =>
    async parameters => {
      const handle = parameters.worker === undefined ? busiest(supervisor) : workerOf(supervisor, parameters);
      const diagnosis = kind === 'heap-snapshot' ? { kind } : { kind, seconds: secondsOf(parameters) };
      if (parameters.stream === true) {
        return socket().relay(path => diagnostics.take(handle, diagnosis, { socket: socket().path, path }));
      }
      const file = typeof parameters.output === 'string' ? parameters.output : diagnostics.fileFor(handle, diagnosis);
      await diagnostics.take(handle, diagnosis, { file });
      return { worker: handle.id, file };
    };

  /** Whoever asked would wait for what never comes. */
  const whileItStays =
    (operation: Operation): Operation =>
    (parameters, tell) => {
      if (pod().state === 'draining') throw new ControlError(409, 'the pod drains: its workers are about to go');
      return operation(parameters, tell);
    };

  return {
    status: () => statusOf(pod(), 'operator'),
    watch: () => ({
      status: statusOf(pod(), 'operator'),
      samples: parts.history.samples.slice(-WATCHED_SAMPLES),
      events: parts.history.events('operator').slice(-WATCHED_EVENTS),
    }),
    restart: whileItStays(async (parameters, tell) => {
      if (parameters.worker === undefined) await parts.restarts.ask(tell);
      else await supervisor.restart(workerOf(supervisor, parameters), tell);
      return { generation: supervisor.generation };
    }),
    scale: whileItStays(async ({ workers, force }) => {
      await resizer.scale(countOf(workers), force === true, supervisor);
      const { workers: count, reason, warnings } = resizer.sizing;
      return { workers: count, reason, ...(warnings.length > 0 && { warnings }) };
    }),
    cordon: whileItStays(async parameters => {
      const handle = workerOf(supervisor, parameters);
      if (handle.state !== 'ready') throw new ControlError(409, `worker ${handle.id} is ${handle.state}, expected ready`);
      if (!supervisor.mayLeave(handle)) throw new ControlError(409, `worker ${handle.id} is the only one that serves`);
      await handle.setCordoned(true);
      return { worker: handle.id, state: handle.state };
    }),
    uncordon: whileItStays(async parameters => {
      const handle = workerOf(supervisor, parameters);
      if (handle.state !== 'cordoned') throw new ControlError(409, `worker ${handle.id} is ${handle.state}, expected cordoned`);
      await handle.setCordoned(false);
      return { worker: handle.id, state: handle.state };
    }),
    policy: ({ name }) => {
      const objection = parts.balancing.change(String(name));
      if (objection !== undefined) throw new ControlError(409, objection);
      return { policy: parts.balancing.policy };
    },
    broadcast: async ({ event, data }) => {
      const { workers, otherPods } = parts.relay.broadcast(checked(event, data), OPERATOR);
      return { workers, otherPods: await otherPods };
    },
    fleet: () => ({ pods: parts.relay.members }),
    'rotate-keys': (_, tell) => rotateKeys(parts.settings.config, parts.relay, tell),
    'heap-snapshot': diagnose('heap-snapshot'),
    'cpu-profile': diagnose('cpu-profile'),
    doctor: () => diagnoseDeployment(factsOf(parts)),
  };
}

function checked(event: unknown, data: unknown): Broadcast {
  try {
    return broadcastOf(String(event ?? ''), data);
  } catch (error) {
    throw new ControlError(400, (error as Error).message);
  }
}

function workerOf(supervisor: Supervisor, { worker }: Record<string, unknown>): WorkerProcess {
  const handle = supervisor.handles.find(({ id }) => id === worker);
  if (handle !== undefined) return handle;
  const ids = supervisor.handles.map(({ id }) => id).join(', ');
  throw new ControlError(404, `there is no worker ${JSON.stringify(worker)}; there is ${ids || 'none'}`);
}

/** Where the operator names none: the one with the largest heap. */
function busiest(supervisor: Supervisor): WorkerProcess {
  const heap = ({ snapshot }: WorkerProcess) => snapshot?.memory.heapUsed ?? 0;
  const handle = supervisor.serving.toSorted((a, b) => heap(b) - heap(a))[0];
  if (handle === undefined) throw new ControlError(409, 'no worker serves');
  return handle;
}

function countOf(workers: unknown) {
  try {
    return workerCount(String(workers));
  } catch (error) {
    throw new ControlError(400, `the number of workers must be ${(error as Expected).message}, got ${JSON.stringify(workers)}`);
  }
}

function secondsOf({ seconds = 10 }: Record<string, unknown>): number {
  if (typeof seconds === 'number' && seconds > 0 && seconds <= LONGEST_PROFILE_S) return seconds;
  throw new ControlError(400, `seconds must be above 0 and at most ${LONGEST_PROFILE_S}, got ${JSON.stringify(seconds)}`);
}

function factsOf({ settings, supervisor, resizer, redis }: Parts): Facts {
  return {
    config: settings.config,
    sizing: resizer.sizing,
    gracePeriodSeconds: settings.gracePeriodSeconds,
    hardFileLimit: fileLimit()?.hard,
    memory: supervisor.memoryView,
    lastRefusal: supervisor.lastRefusal,
    isPid1: process.pid === 1,
    isDiagnosticsDirWritable: isWritable(settings.config.diagnosticsDir),
    areSessionKeysGenerated: settings.areSessionKeysGenerated,
    redis: [...supervisor.handles.flatMap(({ redis }) => redis ?? []), ...(redis.primary ? [redis.primary] : [])],
    redisRefusals: redis.refusals,
  };
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
