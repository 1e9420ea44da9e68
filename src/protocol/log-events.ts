/**
 * Every event that the kit logs: its level, what it means, its fields. The log calls are typed by it (event-log.ts), and
 * docs/reference/log-events.md is generated from it. Each line also has `level`, `time` and `pid`, and `worker` where a worker writes it.
 */
import type { TypeScriptLoader } from '../config/inherited.ts';
import type { DrainReport } from './api.ts';
import type { ExitCode } from './exit.ts';
import type { LeaderScope } from './leader.ts';
import {
  at,
  count,
  type Entry,
  error,
  type Fields,
  failure,
  fatal,
  field,
  generation,
  info,
  type Level,
  leader,
  optional,
  reason,
  redis,
  requests,
  stage,
  text,
  trace,
  warn,
  warning,
  why,
  worker,
  workerPid,
} from './log-fields.ts';
import { START_LOG_EVENTS } from './start-log-events.ts';
import { WORKER_LOG_EVENTS } from './worker-log-events.ts';

export const LOG_EVENTS = {
  ...START_LOG_EVENTS,

  // The pool
  'app.listening': info('The first worker serves.', {
    url: text('of the app; with localhost where it listens on all addresses, in a pod of Kubernetes with that of the pod'),
    host: text('what it listens on: an address, a name, or `unix:` and a path'),
  }),
  'app.run-as-main': info('The app is run as main from now on, as `node FILE` does.', {
    why: text('what the first worker found'),
  }),
  'app.adopted': at('info', 'warn')(
    'The app listens by itself: the kit serves its server; level `warn` where that is on another port or address.',
    {
      kind: field<'http' | 'https'>('string')('`http` or `https`'),
      port: count('in the call of the app; 0 means any port'),
      host: optional(text('address in the call of the app')),
      url: text('where it is served'),
      warning: optional(warning),
    },
  ),
  'app.typescript-loader': info('Workers load the app with a TypeScript loader of its project from now on.', {
    loader: field<TypeScriptLoader>('string')('its name'),
    why: text('what Node.js cannot load, and where'),
  }),
  'pool.ready': info('The pod is ready.', {
    workers: count('how many serve'),
    wanted: count('size of the pool'),
    ms: count('milliseconds since the start of the primary'),
  }),
  'pool.scale': info('The size of the pool changes.', { from: count('old size'), to: count('new size') }),
  'pool.scale-failed': failure('A new worker did not start; the pool returns to its old size.', {
    from: count('the size that failed'),
    to: count('the previous size'),
    error,
  }),
  'pool.scale-refused': warn('More workers do not fit into memory.', { workers: count('the size that was refused'), warning }),
  'pool.backoff': warn('Workers fail; the next start waits.', {
    ms: count('milliseconds until the next start'),
    failures: count('failures in a row'),
  }),
  'pool.rebalanced': info('Kept connections have moved to workers that had fewer.', {
    connections: count('how many'),
    from: field<readonly number[]>('list')('the numbers of the workers that had more'),
    to: field<readonly number[]>('list')('the numbers of the workers that have taken them'),
    ms: count('milliseconds from the decision to the last one'),
  }),
  'pool.restart': info('A rolling restart begins.', { generation, workers: count('how many workers are replaced') }),
  'pool.restarted': info('A rolling restart has succeeded.', { generation }),
  'pool.restart-failed': failure('A rolling restart has failed.', { generation, error }),
  'pool.restart-refused': failure('A restart was refused; all workers keep serving.', { why: text('the reason') }),
  'recycling.pointless': warn('Replacing workers for their memory frees none.', { why: text('the numbers') }),

  // Workers, as the primary sees them
  'worker.ready': info('A worker serves.', { worker, workerPid, generation, ms: count('milliseconds since its fork') }),
  'worker.failed': failure('A worker cannot start.', {
    worker,
    stage,
    error,
    stack: optional(text('of the error and its causes; only the first of equal ones in a row has it')),
  }),
  'worker.exit': at('info', 'error')('A worker has exited; level `error` where it failed.', {
    worker,
    workerPid,
    reason,
    code: optional(count('the exit code')),
    failure: optional(text('what went wrong')),
    fingerprint: optional(text('of the message of its error, as on the admin port')),
    drain: optional(field<DrainReport>('object')('requests finished and cut, connections closed gracefully, times in ms')),
  }),
  'worker.hung': failure('A worker has not reported for WORKER_HEARTBEAT_TIMEOUT_MS and is replaced.', {
    worker,
    workerPid,
    stack: field<readonly string[] | string>('list or string')('what it was doing, a line per frame; or `unavailable`'),
  }),
  'worker.malformed-message': warn('A message of a worker was dropped; the first of each worker is logged.', {
    worker,
    workerPid,
    error,
  }),
  'worker.replace': at('info', 'error')('The pool replaces a worker; level `error` where it hangs.', {
    worker,
    workerPid,
    reason,
  }),
  'worker.replace-failed': failure('A worker could not be replaced; it keeps serving.', { worker, reason, error }),
  'worker.diagnosed': info('A heap snapshot or CPU profile is complete.', {
    worker,
    kind: field<'heap-snapshot' | 'cpu-profile'>('string')('`heap-snapshot` or `cpu-profile`'),
    file: optional(text('where it was written')),
  }),
  'worker.snapshot-refused': failure('A heap snapshot was refused or failed.', { worker, error }),
  'before-start.begins': info('BEFORE_START runs; the first worker starts after it.', { module: text('its file') }),
  'before-start.ended': info('BEFORE_START has ended without an error; the first worker starts.', {
    ms: count('milliseconds that it took'),
  }),
  'before-start.failed': failure('BEFORE_START has failed: the start ends with exit code 1.', {
    error,
    stack: optional(text('of the error, with its causes')),
  }),
  'request.cut': warn('A request ended without an answer, with its worker or at a deadline.', {
    worker,
    method: text('`UPGRADE` for a WebSocket; empty where the request had not fully arrived'),
    path: text('without its query'),
    ageMs: count('milliseconds since it began'),
    ...trace,
  }),

  // Health checks of the app
  'health.failing': warn('A health check fails; logged when it begins.', {
    check: text('its name'),
    failing: count('workers in which it fails'),
    workers: count('workers that run it'),
    error: text('how it fails, with the message of the app'),
  }),
  'health.passing': info('A health check passes again in every worker.', {
    check: text('its name'),
    ms: count('milliseconds since it began to fail'),
  }),
  'health.unready': failure('The pod is not ready because of a health check with `readiness`.', {
    check: text('its name'),
    error: text('how it fails, with the message of the app'),
  }),
  'health.ready': info('A health check no longer keeps the pod out of rotation.', {
    check: text('its name'),
    ms: count('milliseconds for which it did'),
  }),

  // kit.leader
  'leader.acquired': info('A worker leads.', { ...leader, scope: field<LeaderScope>('string')('`fleet` or `pod`') }),
  'leader.released': info('A worker has given up its lead; another one may take over at once.', { ...leader, why }),
  'leader.lost': warn('A worker has lost its lead: the lock has expired or was taken, or the worker has exited.', {
    ...leader,
    why,
  }),

  // The shutdown
  'shutdown.delay': info('The shutdown begins: still accepting for SHUTDOWN_DELAY_MS.', { ms: count('milliseconds') }),
  'shutdown.drain': info('The workers drain.', {
    workers: count('how many'),
    timeoutMs: count('milliseconds until the rest is aborted'),
  }),
  'drain.waiting': info('A draining worker still has open requests, or tasks.', {
    worker,
    open: count('how many requests'),
    requests,
    tasks: count('promises of `kit.task` that have not settled'),
  }),
  'shutdown.unserved': warn('Connections that no worker has accepted were reset.', { connections: count('how many') }),
  'shutdown.unacknowledged': warn('Clients have not acknowledged the end of their answers.', {
    connections: count('how many'),
    bytes: count('sent and not acknowledged'),
  }),
  'shutdown.cut': warn('Requests were aborted by the shutdown: the exit code is 1.', { requests: count('how many') }),
  'primary.abort': fatal('The primary gives up.', {
    code: field<ExitCode>('number')('the exit code that follows'),
    error: text('why'),
  }),
  'primary.exit': info('The last line of the primary.', { code: field<ExitCode>('number')('its exit code') }),

  // bosun dev
  'dev.watching': info('The app serves; a save of a watched file reloads it.', {
    url: text('of the app'),
    files: count('how many files are watched'),
  }),
  'dev.reload': info('A save was seen: new workers start, and replace the old ones once they serve.', {
    files: field<readonly string[]>('list')('what was saved, relative to the working directory'),
  }),
  'dev.reloaded': info('The new code serves.', { ms: count('milliseconds since the save was seen') }),
  'dev.failed': failure('The new code does not start, or has crashed.', {
    note: text('what serves meanwhile'),
    error,
    stack: text('with the causes'),
  }),
  'dev.not-opened': info('The browser could not be opened.', { url: text('the address to open'), error }),
  'dev.inspector-waits': warn('The port of the inspector is in use.', { address: text('host and port'), warning }),

  // Redis
  'redis.ready': info('A connection to Redis works.', redis),
  'redis.unreachable': warn('Redis does not answer.', redis),
  'redis.refused': warn('Redis rejects the password or the database.', redis),
  'redis.faulty': warn('Redis breaks its protocol, or sends too much.', redis),
  'redis.refusing': warn('Redis refuses a command; logged when it begins.', {
    code: text('`READONLY`, `OOM`, `MISCONF`, `NOPERM`, …'),
    command: text('its name'),
    error: text('the answer of Redis'),
  }),
  'redis.accepting': info('Redis accepts that command again.', {
    code: text('the refusal that has ended'),
    command: text('its name'),
  }),

  // Written by workers
  ...WORKER_LOG_EVENTS,
} as const satisfies Record<string, Entry<Level, Fields>>;

export type LogEventName = keyof typeof LOG_EVENTS;
