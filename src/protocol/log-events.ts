/**
 * Every event that the kit logs: its level, what it means, its fields. The log calls are typed by it (event-log.ts), and
 * docs/reference/log-events.md is generated from it. Each line also has `level`, `time` and `pid`, and `worker` where a worker writes it.
 */
import type { Policy } from '../config/config.ts';
import type { TypeScriptLoader } from '../config/inherited.ts';
import type { DrainReport } from './api.ts';
import type { ExitCode } from './exit.ts';
import type { LeaderScope } from './leader.ts';
import {
  at,
  count,
  debug,
  type Entry,
  err,
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
import { WORKER_LOG_EVENTS } from './worker-log-events.ts';

export const LOG_EVENTS = {
  // The primary: start and settings
  'primary.start': info('The primary starts.', {
    version: text('of koa-bosun'),
    node: text('version of Node.js'),
    workers: count('size of the pool'),
    reason: text('what decided the size'),
    heapPerWorkerMb: field<number | null>('number or null')('heap limit of each worker in MiB; null: the default of V8'),
    semiSpaceMb: field<number | null>('number or null')(
      'a third of the young generation of each worker in MiB; null: the default of V8',
    ),
    policy: field<Policy>('string')('the balancing policy'),
  }),
  'balancing.fallback': warn('The policy is not the one that was set.', { warning }),
  'balancing.policy': info('An operator has changed the policy.', {
    policy: field<Policy>('string')('the new one'),
    before: field<Policy>('string')('the old one'),
  }),
  'sizing.warning': warn('The size of the pool is questionable.', { warning }),
  'sizing.skipped': debug('A file with limits was not used.', { file: text('its path'), why: text('the reason') }),
  'sizing.changed': info('The limits of the container, or the setting, have changed.', {
    workers: count('new size of the pool'),
    reason: text('what decided the size'),
    heapPerWorkerMb: field<number | null>('number or null')('heap limit of each worker in MiB'),
    semiSpaceMb: field<number | null>('number or null')('a third of the young generation of each worker in MiB'),
    quota: field<number | null>('number or null')('CPU quota in CPUs'),
    memoryLimitBytes: field<number | null>('number or null')('memory limit'),
  }),
  'node-options.warning': warn('An option in NODE_OPTIONS has no effect, or an unwanted one.', { warning }),
  'app.demo': warn('The demo app is served in production, because no app is configured.', { warning }),
  'session.keys-generated': warn('The session keys were generated for this start.', { warning }),
  'service.renamed': warn('The package was renamed, and keeps its earlier name in Redis.', {
    service: text('the name in Redis'),
    app: text('the name of the package'),
    warning,
  }),
  'service.shared': warn('Another app uses the same SERVICE_NAME in the same Redis.', {
    service: text('the name'),
    app: text('what the other app calls itself: the name of its package, or its module'),
    warning,
  }),
  'service.migrated': info('The change of the name has ended: every pod uses the new names in Redis.', {
    service: text('the new name'),
    sessions: count('how many sessions were copied'),
  }),
  'session.keys-rotated': info('Every worker signs sessions with a new key.', { keys: count('how many keys are valid now') }),
  'reload.refused': failure('A rolling restart found bad settings; the workers keep the old ones.', {
    problems: field<readonly string[]>('list')('one sentence for each'),
  }),
  signal: info('The primary received a signal.', { command: text('what it means: `shutdown`, `restart`, …') }),
  'admin.listening': info('The admin port is open.', {
    url: text('of the dashboard; its host as in `app.listening`'),
    host: text('its address'),
    port: count('its port'),
  }),
  'admin.port-taken': warn('Another process has the default admin port; outside production the pool runs without one.', {
    port: count('the default port'),
    warning: text('what to set'),
  }),
  'admin.failed': failure('The admin port could not answer a request.', { err }),
  'admin.connections-refused': warn('Connections to the admin port were refused; logged once a minute at most.', {
    count: count('since the last such line'),
    why: text('the reason of the last one'),
  }),
  'control.listening': info('The control socket is open.', { path: text('its path') }),
  'control.unavailable': warn('The control socket cannot be opened; the pool runs without it.', {
    path: text('its path'),
    error,
  }),
  'sticky.failed': warn('A worker has no socket for the others of its pod: requests of its clients may reach any worker.', {
    error,
  }),
  'metrics.renamed': warn("Metrics of the app have names of the kit's metrics.", {
    metrics: field<readonly string[]>('list')('their names'),
    warning,
  }),
  'log.dropped': warn('Log lines were dropped because their reader was too slow.', {
    stream: field<'stdout' | 'stderr'>('string')('`stdout` or `stderr`'),
    lines: count('since the last such line'),
  }),
  'orphan.ended': warn('A worker whose primary had died was ended, because it held the port.', {
    workerPid,
    primaryPid: count('process id of its primary'),
  }),

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
