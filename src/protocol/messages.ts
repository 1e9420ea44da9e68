/**
 * The messages between the primary and its workers, and their envelope: the app shares the channel. What it sends with `process.send` has no
 * envelope, and its `process.on('message')` sees none of the kit's. Both sides meet here: `primary/` and `worker/` never import each other.
 */
import type { InspectorAddress, Loading } from '../config/inherited.ts';
import type { Closing } from './closing.ts';
import type { RequestError } from './error-status.ts';
import type { HealthReport } from './health.ts';
import type { LeaderReport } from './leader.ts';
import type { Snapshot } from './snapshot.ts';
import type { TraceIds } from './trace.ts';

export type ToWorker =
  /**
   * First message to every worker, sent at the fork: `sessionKeys` where the primary made them (no Redis, none given), the last event
   * of each retained name, and the listening sockets that it serves at first. With `inspector` it opens its inspector before it loads the app.
   */
  | { type: 'start'; sessionKeys: string[]; retained: Broadcast[]; listeners: number[]; inspector?: InspectorAddress }
  /** Open the inspector there, or, without an address, close it: another worker takes over its port (`bosun dev --inspect`). */
  | { type: 'inspector'; at?: InspectorAddress }
  /** Accept from these listening sockets, and no others. */
  | { type: 'serve'; listeners: number[] }
  /** From now on every response ends its connection; the listener stays open. */
  | { type: 'disable-keepalive' }
  /**
   * The pod is shutting down: accept what is queued at these listening sockets (default: those served now), and go on accepting.
   * Answered by `took-all` when the queues are empty.
   */
  | { type: 'take-all'; listeners?: number[] }
  /** Close the listener, finish what is open, report, exit. */
  /** `sentAt` is monotonic time: a busy worker reads the message late, and the deadline must not move. */
  | ({ type: 'drain'; sentAt: number } & DrainTimes)
  /** Stop or resume accepting; open connections are kept. */
  | { type: 'cordon' }
  | { type: 'uncordon' }
  /** Comes with a connection: serve it from now on. Answered by `taken` with the same id. */
  | { type: 'take'; id: number }
  /** The answer to `move`: another worker serves that connection now, or none could take it. */
  | { type: 'moved'; id: number; isTaken: boolean }
  /** Send up to so many connections with `move` as they rest, but not in a drain: other workers have fewer. */
  | { type: 'rebalance'; count: number }
  /** Take a heap snapshot or CPU profile, and write it to `to`; answered by `diagnosed` with the same id. */
  | { type: 'diagnose'; id: number; diagnosis: Diagnosis; to: DiagnosisTarget }
  /** Of a leader of this pod: lead with that token, or, without one, let another worker lead. */
  | { type: 'leader'; name: string; token?: number }
  | ({ type: 'broadcast' } & Broadcast);

export type ToPrimary =
  /** The listener is open and the app answers; `port` is the real one where PORT=0. */
  | { type: 'ready'; port: number; adopted?: AdoptedServer }
  /** PORT is not set, and the app listens on this one: the primary is to take it. This worker exits right after. */
  | { type: 'named-port'; port: number }
  /** This worker can't start. It exits right after. */
  | ({ type: 'failed'; stage: 'app' | 'listen' } & ErrorReport)
  /** This worker exits right after: the app must be loaded in another way, which the next worker does. `why` for the log. */
  | ({ type: 'load-again'; why: string } & Pick<Loading, 'asMain' | 'loader'>)
  /** An exception that nobody caught: the worker drains itself and exits with code 1. */
  | ({ type: 'crashing' } & ErrorReport)
  /** The app ends its process at once: these requests are lost. `open` of them, and the oldest. */
  | { type: 'app-exit'; message: string; open: number; oldest: OpenRequest[] }
  /** `evictionPolicy` is Redis' maxmemory-policy, if it may be read. */
  | { type: 'redis'; state: RedisState; message: string; evictionPolicy?: string }
  /** This worker goes by the session keys that are in Redis since the KEYS_EVENT of that name. */
  | { type: 'keys-read'; change: string }
  | { type: 'stats'; snapshot: Snapshot }
  /** Requests that have failed since the last such message, at most MAX_ERRORS. */
  | { type: 'errors'; errors: RequestError[] }
  /** A check of the app was registered, or has run. */
  | ({ type: 'health' } & HealthReport)
  /** What a drain waits for, every few seconds: how many requests, the oldest of them, and how many tasks of the app. */
  | { type: 'waiting'; open: number; oldest: OpenRequest[]; tasks: number }
  | { type: 'drained'; drain: Drain }
  /** After `drained`, if there were any: how the app's tasks and close handlers ended. */
  | { type: 'closed'; closing: Closing }
  | { type: 'cordoned' }
  | { type: 'uncordoned' }
  | { type: 'took-all' }
  /** Comes with a connection between two requests, for another worker. Answered by `moved` with the same id. */
  | { type: 'move'; id: number }
  /** Sent before anything is read from the connection of that `take`. */
  | { type: 'taken'; id: number; isTaken: boolean }
  | { type: 'diagnosed'; id: number; error?: string }
  /** These files of the app were loaded, or looked for in vain: sent at once, since what they run may never return (`bosun dev`). */
  | { type: 'loaded'; files: LoadedFile[] }
  | ({ type: 'leader' } & LeaderReport)
  /** Somebody has sent SIGUSR2 to this worker. */
  | { type: 'snapshot-wanted' }
  /** The last message: all before it has arrived. */
  | { type: 'exiting' }
  | ({ type: 'broadcast' } & Broadcast);

/** A file at the time when a worker loaded it. */
export interface LoadedFile {
  path: string;
  /** As `versionOf` (protocol/file-version.ts). */
  version: string;
}

/** A server of the app that the kit serves: as in its call of `listen`. Port 0 means any, no host all addresses. */
export interface AdoptedServer {
  kind: 'http' | 'https';
  port: number;
  host?: string;
}

/** An error of a worker, for the log. */
export interface ErrorReport {
  message: string;
  /** With the stacks of its causes. */
  stack: string;
  summary: ErrorSummary;
  /** A retry would fail in the same way: a syntax error, a missing module, a wrong export, a port in use. */
  isPermanent: boolean;
}

/** The part of an error that may be shown anywhere: it has no text of the app. */
export interface ErrorSummary {
  /** What has failed, in the kit's own words (`/app/server.js does not exist`); missing where class and place say it. */
  own?: string;
  class: string;
  /** The system's, or Node.js' (`ECONNREFUSED`, `ERR_MODULE_NOT_FOUND`). */
  code?: string;
  /** Of the app's code: where the error was made. */
  file?: string;
  line?: number;
}

/** An event of the app; `json` is its data, as text all the way from worker to worker. */
export interface Broadcast {
  event: string;
  json: string;
}

/** Of an event's data as JSON, in bytes and so in characters. */
export const MAX_BROADCAST_CHARACTERS = 256 << 10;

/** Names of events that are the kit's own; an app may neither send nor receive them. */
export const OWN_EVENTS = 'bosun:';
/** The session keys in Redis have changed: workers read them again and report that. Its data names the change. */
export const KEYS_EVENT = `${OWN_EVENTS}keys`;

/**
 * The time that a worker may use after the deadline of its drain: close handlers 1 s, the app's own signal listeners 2 s, their pending work 0.5 s,
 * closing Redis 1 s, the exit itself.
 */
export const EXIT_SLACK_MS = 5000;

/** `appMs` of most drains. */
export const APP_MS = 300;

/** Of a drain, in milliseconds. */
export interface DrainTimes {
  /** What is open then is cut. */
  timeoutMs: number;
  /** A connection may go when nothing came on it for this long: a request that was already in flight is served. */
  quietMs: number;
  /** The app may take this long to close its WebSockets and event streams by itself, on `kit.draining`; then the kit does. */
  appMs: number;
  /** Whether to end clients that take nothing of their whole answer for 5 s: at a shutdown they would delay the exit. */
  endStalled: boolean;
  /** Whether to move connections to other workers (MOVE_CONNECTIONS): at a shutdown there are none. */
  moves: boolean;
}

/**
 * `refused`: Redis answers but rejects us (password, database): bad configuration. `faulty`: the server breaks the Redis protocol, or sends
 * more than is accepted.
 */
export type RedisState = 'ready' | 'unreachable' | 'refused' | 'faulty';

/** What became of the requests and connections of one drain. */
export interface Drain {
  /** Requests that were open when the drain began, or came after, and were answered in full. */
  finished: number;
  /** Requests, or upgraded connections, that the deadline cut. */
  cutRequests: number;
  /** The oldest of them. */
  cut: OpenRequest[];
  webSockets: StreamEnds;
  eventStreams: StreamEnds;
  /** Connections that were open when the drain began and ended between two requests: their clients' next ones go to other workers. */
  closedGracefully: number;
  /** Connections that were moved to other workers. */
  moved: number;
  longestRequestMs: number;
  durationMs: number;
  /** Undefined until the app's close handlers have run, and if there were none, and no tasks. */
  closing?: Closing;
}

/** How many WebSockets, or streams of server-sent events, a drain has ended; those that the deadline cut are not among them. */
export interface StreamEnds {
  /** By the kit, with a retry hint. */
  byKit: number;
  /** By the app, or by the client. */
  byApp: number;
}

/** A request without an answer. `path` is without its query, which may hold secrets. */
export interface OpenRequest extends Partial<TraceIds> {
  /** `UPGRADE` for a WebSocket or another upgraded connection, empty for a request that has not fully arrived. */
  method: string;
  path: string;
  ageMs: number;
  /** Bytes of its answer, and of others on the connection, that have been sent so far. */
  bytesSent: number;
}

export type Diagnosis = { kind: 'heap-snapshot' } | { kind: 'cpu-profile'; seconds: number };

/** A file, or a request to the control socket whose body it becomes. */
export type DiagnosisTarget = { file: string } | { socket: string; path: string };

/**
 * node:child_process emits a message whose `cmd` begins with NODE_ as 'internalMessage' and not as 'message', on both sides; node:cluster
 * uses the same way. No 'message' listener of an app, of node:cluster or of a library sees it.
 */
const CMD = 'NODE_BOSUN';

export interface Envelope<T> {
  cmd: typeof CMD;
  message: T;
}

export const seal = <T>(message: T): Envelope<T> => ({ cmd: CMD, message });

/** Whether it has the envelope. Its content is not trusted: it must be parsed. */
export function isEnvelope(message: unknown): message is Envelope<unknown> {
  return isInternal(message) && message.cmd === CMD;
}

/** Whether node:child_process keeps it from 'message' listeners. */
export function isInternal(message: unknown): message is { cmd: string } {
  if (typeof message !== 'object' || message === null || !('cmd' in message)) return false;
  return typeof message.cmd === 'string' && message.cmd.startsWith('NODE_');
}

/** What Node.js itself sends to its parent for each module under `node --watch`, to watch its files. */
export function isWatchReport(message: unknown): message is object {
  if (typeof message !== 'object' || message === null) return false;
  const [entry, ...others] = Object.entries(message);
  if (entry === undefined || others.length > 0) return false;
  const [key, files] = entry;
  return (
    WATCH_REPORTS.includes(key) && Array.isArray(files) && files.every(file => (file ?? '') === '' || typeof file === 'string')
  );
}

const WATCH_REPORTS = ['watch:require', 'watch:import'];

/** Milliseconds on the clock that all processes of the machine share; `performance.now()` starts at 0 in each process. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;
