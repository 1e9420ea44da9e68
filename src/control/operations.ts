/**
 * The commands of the control socket, by name, with their parameters checked.
 */
import { accessSync, constants } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import type { History } from '../admin/history.ts';
import type { RecentErrors } from '../admin/recent-errors.ts';
import { type Pod, statusOf } from '../admin/status.ts';
import type { Balancing } from '../balancing/balancing.ts';
import { type Expected, workerCount } from '../config/parse.ts';
import type { Service } from '../config/service.ts';
import type { LogSource } from '../log/log.ts';
import type { LogOutputs } from '../log/output.ts';
import type { Resizer, RollingRestart } from '../pool/resizer.ts';
import type { Settings } from '../pool/settings.ts';
import type { Supervisor } from '../pool/supervisor.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { CommandName, ResultOf } from '../protocol/commands.ts';
import type { Emit } from '../protocol/events.ts';
import type { Broadcast } from '../protocol/messages.ts';
import type { RedisRefusal } from '../protocol/snapshot.ts';
import { fileLimit } from '../resources/usage.ts';
import { broadcastOf } from '../state/broadcast.ts';
import { type EventBus, OPERATOR } from '../state/event-bus.ts';
import type { Diagnostics } from './diagnostics.ts';
import { diagnoseDeployment, type Facts, type ServiceFacts } from './doctor.ts';
import { type LeaderReports, leaderOf } from './leader.ts';
import { logsOf } from './logs.ts';
import { migrateService } from './migrate-service.ts';
import { rotateKeys } from './rotate-keys.ts';
import { ControlError, ControlSocket, type OnStep, type Parameters, type Streamed } from './socket.ts';

export interface ControlContext {
  pod: () => Pod;
  settings: Settings;
  balancing: Balancing;
  supervisor: Supervisor;
  resizer: Resizer;
  diagnostics: Diagnostics;
  restarts: RollingRestart;
  eventBus: EventBus;
  redis: RedisReports;
  leaders: LeaderReports;
  history: History;
  recentErrors: RecentErrors;
  emit: Emit;
  log: LogSource;
  outputs: Pick<LogOutputs, 'memory'>;
}

/** What this pod's processes report of Redis. */
interface RedisReports {
  /** Of the primary's own connections; undefined without Redis. */
  primary: { state: string; message: string } | undefined;
  refusals: readonly RedisRefusal[];
}

const MAX_PROFILE_S = 300;
/** For `status --watch`: a screen has no room for more of the last ten minutes. */
const WATCHED_SAMPLES = 60;
const WATCHED_EVENTS = 30;

/** Opens the control socket. If that fails, logs the reason and returns undefined: the pool serves without it. */
export async function openControlSocket(path: string, context: ControlContext): Promise<ControlSocket | undefined> {
  const { log } = context;
  const socket: ControlSocket = new ControlSocket(
    path,
    operations(context, () => socket),
  );
  try {
    await socket.open();
    log().info({ event: 'control.listening', path });
    return socket;
  } catch (error) {
    const { message } = error as Error;
    const remedy = '; bosun needs it: set CONTROL_SOCKET to a path in a folder that is writable';
    const isNamed = message.includes('CONTROL_SOCKET');
    log().warn({ event: 'control.unavailable', path, error: `${message}${isNamed ? '' : remedy}` });
    return undefined;
  }
}

/** Its parameters are unchecked. A diagnosis returns a Streamed where bytes are wanted. */
type Operations = {
  [Name in CommandName]: (parameters: Parameters, onStep: OnStep) => Promise<ResultOf<Name> | Streamed> | ResultOf<Name>;
};

/** @param socket the control socket itself, through which workers stream */
function operations(context: ControlContext, socket: () => ControlSocket): Operations {
  const { pod, settings, balancing, supervisor, resizer, diagnostics, restarts, eventBus, leaders, history, emit, outputs } =
    context;

  const diagnose = (kind: 'heap-snapshot' | 'cpu-profile') => async (parameters: Parameters) => {
    const handle = parameters.worker === undefined ? largestOf(supervisor) : workerOf(supervisor, parameters);
    const diagnosis = kind === 'heap-snapshot' ? { kind } : { kind, seconds: secondsOf(parameters) };
    if (parameters.stream === true) {
      return socket().streamUpload(path => diagnostics.take(handle, diagnosis, { socket: socket().path, path }));
    }
    const file = typeof parameters.output === 'string' ? parameters.output : diagnostics.fileFor(handle, diagnosis);
    await diagnostics.take(handle, diagnosis, { file });
    return { worker: handle.id, file };
  };

  /** Refused during the shutdown, when the operation would never complete. */
  const unlessDraining =
    <T>(operation: (parameters: Parameters, onStep: OnStep) => T) =>
    (parameters: Parameters, onStep: OnStep): T => {
      if (pod().state === 'draining') throw new ControlError(409, 'the pod is draining; its workers are about to exit');
      return operation(parameters, onStep);
    };

  return {
    status: () => statusOf(pod(), 'operator'),
    watch: () => ({
      status: statusOf(pod(), 'operator'),
      samples: history.samples.slice(-WATCHED_SAMPLES),
      events: history.events('operator').slice(-WATCHED_EVENTS),
    }),
    restart: unlessDraining(async (parameters, onStep) => {
      if (parameters.worker === undefined) await restarts.request(onStep);
      else await supervisor.restart(workerOf(supervisor, parameters), onStep);
      return { generation: supervisor.generation };
    }),
    scale: unlessDraining(async ({ workers, force }) => {
      await resizer.scale(countOf(workers), force === true, supervisor);
      const { workers: count, reason, warnings } = resizer.sizing;
      return { workers: count, reason, ...(warnings.length > 0 && { warnings }) };
    }),
    cordon: unlessDraining(async parameters => {
      const handle = workerOf(supervisor, parameters);
      if (handle.state !== 'ready') throw new ControlError(409, `worker ${handle.id} is ${handle.state}, expected ready`);
      if (!supervisor.mayLeave(handle)) throw new ControlError(409, `worker ${handle.id} is the only one that serves`);
      await handle.setCordoned(true);
      return { worker: handle.id, state: handle.state };
    }),
    uncordon: unlessDraining(async parameters => {
      const handle = workerOf(supervisor, parameters);
      if (handle.state !== 'cordoned') throw new ControlError(409, `worker ${handle.id} is ${handle.state}, expected cordoned`);
      await handle.setCordoned(false);
      return { worker: handle.id, state: handle.state };
    }),
    policy: ({ name }) => {
      const { policy: before } = balancing;
      const objection = balancing.change(String(name));
      if (objection !== undefined) throw new ControlError(409, objection);
      const { policy } = balancing;
      if (policy !== before) emit({ event: 'balancing.policy', policy, before });
      return { policy };
    },
    broadcast: async ({ event, data }) => {
      const { workers, otherPods } = eventBus.broadcast(broadcastFrom(event, data), OPERATOR);
      return { workers, otherPods: await otherPods };
    },
    errors: () => ({ errors: context.recentErrors.last }),
    fleet: () => ({ pods: eventBus.peers }),
    leader: ({ name, release }, onStep) => leaderOf(leaders, String(name), release === true, onStep),
    'rotate-keys': async (_, onStep) => {
      const { keys } = await rotateKeys(settings.config, eventBus, onStep);
      emit({ event: 'session.keys-rotated', keys });
      return { keys };
    },
    'migrate-service': async ({ keep }, onStep) => {
      const migrated = await migrateService(settings.config, eventBus, { keep: keep === true }, onStep);
      emit({ event: 'service.migrated', ...migrated });
      return migrated;
    },
    'heap-snapshot': diagnose('heap-snapshot'),
    'cpu-profile': diagnose('cpu-profile'),
    doctor: () => diagnoseDeployment(factsOf(context)),
    logs: async parameters =>
      logsOf(
        outputs.memory,
        parameters,
        supervisor.handles.map(({ id }) => id),
      ),
  };
}

function broadcastFrom(event: unknown, data: unknown): Broadcast {
  try {
    return broadcastOf(String(event ?? ''), data);
  } catch (error) {
    throw new ControlError(400, (error as Error).message);
  }
}

function workerOf(supervisor: Supervisor, { worker }: Parameters): WorkerProcess {
  const handle = supervisor.handles.find(({ id }) => id === worker);
  if (handle !== undefined) return handle;
  const ids = supervisor.handles.map(({ id }) => id).join(', ');
  throw new ControlError(404, `there is no worker ${JSON.stringify(worker)}; there is ${ids || 'none'}`);
}

/** The worker with the largest heap. */
function largestOf(supervisor: Supervisor): WorkerProcess {
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

function secondsOf({ seconds = 10 }: Parameters): number {
  if (typeof seconds === 'number' && seconds > 0 && seconds <= MAX_PROFILE_S) return seconds;
  throw new ControlError(400, `seconds must be above 0 and at most ${MAX_PROFILE_S}, got ${JSON.stringify(seconds)}`);
}

function factsOf({ pod, settings, supervisor, resizer, redis, eventBus }: ControlContext): Facts {
  const { serving, wanted, isFailing, handles } = supervisor;
  const others = handles.filter(({ isServing }) => !isServing).map(({ id, state }) => ({ id, state }));
  return {
    config: settings.config,
    sizing: resizer.sizing,
    pool: { serving: serving.length, wanted, isFailing, others },
    lastFailure: pod().totals.lastFailure,
    gracePeriodSeconds: settings.gracePeriodSeconds,
    hardFileLimit: fileLimit()?.hard,
    connections: handles.flatMap(({ id, snapshot }) =>
      snapshot?.maxConnections === undefined
        ? []
        : [{ worker: id, connections: snapshot.connections, max: snapshot.maxConnections }],
    ),
    machine: { cpus: cpus().length, memoryBytes: totalmem() },
    memory: supervisor.memoryView,
    lastRefusal: supervisor.lastRefusal,
    isPid1: process.pid === 1,
    isInKubernetes: process.env.KUBERNETES_SERVICE_HOST !== undefined,
    isDiagnosticsDirWritable: isWritable(settings.config.diagnosticsDir),
    areSessionKeysGenerated: settings.areSessionKeysGenerated,
    redis: [...supervisor.handles.flatMap(({ redis }) => redis ?? []), ...(redis.primary ? [redis.primary] : [])],
    redisRefusals: redis.refusals,
    health: pod().health.status('operator') ?? {},
    service: serviceFactsOf(settings.service, eventBus),
  };
}

function serviceFactsOf(service: Service, { names, strangers }: EventBus): ServiceFacts {
  return {
    ...service,
    name: names?.name ?? service.name,
    nameNow: service.name,
    inUse: names?.inUse,
    isChanging: names?.isChanging === true,
    strangers,
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
