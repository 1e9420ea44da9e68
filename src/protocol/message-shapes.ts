/**
 * The shape of each message of the kit, and how much of it is kept. A worker is not trusted with the primary's memory: the app runs
 * in it and may send anything.
 */

import type { InspectorAddress } from '../config/inherited.ts';
import { TYPESCRIPT_LOADERS } from '../config/inherited.ts';
import { closing } from './closing-shapes.ts';
import { errorReport, requestErrors } from './error-shapes.ts';
import { healthReport } from './health-shapes.ts';
import { leaderName, leaderReport, leaderToken } from './leader.ts';
import {
  type AdoptedServer,
  type Broadcast,
  type Diagnosis,
  type DiagnosisTarget,
  type Drain,
  type LoadedFile,
  MAX_BROADCAST_CHARACTERS,
  type OpenRequest,
  OWN_EVENTS,
  type StreamEnds,
  type ToPrimary,
  type ToWorker,
} from './messages.ts';
import {
  boolean,
  integer,
  list,
  MalformedError,
  number,
  object,
  oneOf,
  optional,
  type Parser,
  record,
  string,
  text,
} from './shapes.ts';
import { snapshot } from './snapshot-shapes.ts';

const MAX_TEXT = 4096;
const MAX_PATH = 2048;
const MAX_NAME = 256;
const MAX_PORT = 65_535;
const MAX_LISTENERS = 1024;
const MAX_SESSION_KEYS = 100;
const MAX_RETAINED = 1000;
/** Requests of a drain that are named (worker/connection-drain.ts names no more than 100). */
const MAX_REQUESTS = 100;
/** Of one module, or of one that is missing, in each place where it may be. */
const MAX_LOADED = 100;

const count = number(0);
const id = integer(0, Number.MAX_SAFE_INTEGER);

/**
 * @returns the message that a worker has sent, with known fields only
 * @throws MalformedError
 */
export const parseToPrimary = (value: unknown): ToPrimary => parseMessage(value, TO_PRIMARY);

/** Likewise for a message of the primary. @throws MalformedError */
export const parseToWorker = (value: unknown): ToWorker => parseMessage(value, TO_WORKER);

function parseMessage<M extends { type: string }>(value: unknown, shapes: Record<M['type'], Parser<object>>): M {
  const { type } = record(value, 'message');
  const known = Object.keys(shapes) as M['type'][];
  const found = oneOf(...known)(type, 'message.type');
  return { ...shapes[found](value, found), type: found } as M; // the tables below say which fields belong to which type
}

/** The fields besides `type`. */
type Fields<M, T> = Omit<Extract<M, { type: T }>, 'type'>;

const broadcast = object<Broadcast>({
  event: (value, at) => {
    const event = string(MAX_NAME)(value, at);
    if (event === '') throw new MalformedError(at, 'an event name', event);
    return event;
  },
  json: string(MAX_BROADCAST_CHARACTERS),
});

const appBroadcast: Parser<Broadcast> = (value, at) => {
  const parsed = broadcast(value, at);
  if (parsed.event.startsWith(OWN_EVENTS)) throw new MalformedError(`${at}.event`, 'an event of the app', parsed.event);
  return parsed;
};

const openRequests = list(
  object<OpenRequest>({
    method: text(32),
    path: text(MAX_PATH),
    ageMs: number(),
    bytesSent: count,
    trace_id: optional(string(32)),
    span_id: optional(string(16)),
    trace_flags: optional(string(2)),
  }),
  MAX_REQUESTS,
);

const streamEnds = object<StreamEnds>({ byKit: count, byApp: count });

/** What comes after it is reported later. */
const drain = object<Omit<Drain, 'closing'>>({
  finished: count,
  cutRequests: count,
  cut: openRequests,
  webSockets: streamEnds,
  eventStreams: streamEnds,
  closedGracefully: count,
  moved: count,
  longestRequestMs: count,
  durationMs: count,
});

const TO_PRIMARY: { [T in ToPrimary['type']]: Parser<Fields<ToPrimary, T>> } = {
  ready: object<Fields<ToPrimary, 'ready'>>({
    port: integer(0, MAX_PORT),
    adopted: optional(
      object<AdoptedServer>({ kind: oneOf('http', 'https'), port: integer(0, MAX_PORT), host: optional(text(255)) }),
    ),
  }),
  'named-port': object<Fields<ToPrimary, 'named-port'>>({ port: integer(1, MAX_PORT) }),
  failed: object<Fields<ToPrimary, 'failed'>>({
    stage: oneOf('app', 'listen'),
    ...errorReport,
  }),
  'load-again': object<Fields<ToPrimary, 'load-again'>>({
    asMain: boolean,
    loader: optional(oneOf(...TYPESCRIPT_LOADERS)),
    why: text(MAX_TEXT),
  }),
  crashing: object<Fields<ToPrimary, 'crashing'>>(errorReport),
  'app-exit': object<Fields<ToPrimary, 'app-exit'>>({ message: text(MAX_TEXT), open: count, oldest: openRequests }),
  redis: object<Fields<ToPrimary, 'redis'>>({
    state: oneOf('ready', 'unreachable', 'refused', 'faulty'),
    message: text(MAX_TEXT),
    evictionPolicy: optional(text(64)),
  }),
  'keys-read': object<Fields<ToPrimary, 'keys-read'>>({ change: string(MAX_NAME) }),
  stats: object<Fields<ToPrimary, 'stats'>>({ snapshot }),
  errors: object<Fields<ToPrimary, 'errors'>>({ errors: requestErrors }),
  health: object<Fields<ToPrimary, 'health'>>(healthReport),
  waiting: object<Fields<ToPrimary, 'waiting'>>({ open: count, oldest: openRequests, tasks: count }),
  closed: object<Fields<ToPrimary, 'closed'>>({ closing }),
  drained: object<Fields<ToPrimary, 'drained'>>({ drain }),
  cordoned: object({}),
  'took-all': object({}),
  move: object<Fields<ToPrimary, 'move'>>({ id }),
  taken: object<Fields<ToPrimary, 'taken'>>({ id, isTaken: boolean }),
  uncordoned: object({}),
  diagnosed: object<Fields<ToPrimary, 'diagnosed'>>({ id, error: optional(text(MAX_TEXT)) }),
  loaded: object<Fields<ToPrimary, 'loaded'>>({
    files: list(object<LoadedFile>({ path: string(MAX_PATH), version: string(100) }), MAX_LOADED),
  }),
  leader: leaderReport,
  'snapshot-wanted': object({}),
  exiting: object({}),
  broadcast: appBroadcast,
};

const listeners = list(integer(0, MAX_LISTENERS), MAX_LISTENERS);

const diagnosis: Parser<Diagnosis> = (value, at) => {
  const kind = oneOf('heap-snapshot', 'cpu-profile')(record(value, at).kind, `${at}.kind`);
  return kind === 'heap-snapshot' ? { kind } : { kind, ...object<{ seconds: number }>({ seconds: number(0) })(value, at) };
};

const diagnosisTarget: Parser<DiagnosisTarget> = (value, at) =>
  'file' in record(value, at)
    ? object<{ file: string }>({ file: string(MAX_TEXT) })(value, at)
    : object<{ socket: string; path: string }>({ socket: string(MAX_TEXT), path: string(MAX_TEXT) })(value, at);

const inspectorAddress = object<InspectorAddress>({
  host: string(MAX_NAME),
  port: integer(0, MAX_PORT),
  isAwaited: boolean,
});

const TO_WORKER: { [T in ToWorker['type']]: Parser<Fields<ToWorker, T>> } = {
  start: object<Fields<ToWorker, 'start'>>({
    sessionKeys: list(string(MAX_TEXT), MAX_SESSION_KEYS),
    retained: list(broadcast, MAX_RETAINED),
    listeners,
    inspector: optional(inspectorAddress),
  }),
  inspector: object<Fields<ToWorker, 'inspector'>>({ at: optional(inspectorAddress) }),
  serve: object<Fields<ToWorker, 'serve'>>({ listeners }),
  'take-all': object<Fields<ToWorker, 'take-all'>>({ listeners: optional(listeners) }),
  'disable-keepalive': object({}),
  drain: object<Fields<ToWorker, 'drain'>>({
    sentAt: number(),
    timeoutMs: count,
    quietMs: count,
    appMs: count,
    endStalled: boolean,
    moves: boolean,
  }),
  take: object<Fields<ToWorker, 'take'>>({ id }),
  moved: object<Fields<ToWorker, 'moved'>>({ id, isTaken: boolean }),
  rebalance: object<Fields<ToWorker, 'rebalance'>>({ count }),
  cordon: object({}),
  uncordon: object({}),
  diagnose: object<Fields<ToWorker, 'diagnose'>>({
    id,
    diagnosis,
    to: diagnosisTarget,
  }),
  leader: object<Fields<ToWorker, 'leader'>>({ name: leaderName, token: optional(leaderToken) }),
  broadcast,
};
