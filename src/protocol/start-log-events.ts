/**
 * The events that the primary logs of its start, its settings and its admin port: part of LOG_EVENTS (log-events.ts).
 */
import type { Policy } from '../config/config.ts';
import {
  count,
  debug,
  type Entry,
  err,
  error,
  type Fields,
  failure,
  field,
  info,
  type Level,
  text,
  warn,
  warning,
  workerPid,
} from './log-fields.ts';

export const START_LOG_EVENTS = {
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
} as const satisfies Record<string, Entry<Level, Fields>>;
