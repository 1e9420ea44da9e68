/**
 * The events that workers log themselves: a part of the table of log-events.ts.
 */
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
  functionName,
  info,
  type Level,
  optional,
  text,
  trace,
  warn,
  warning,
} from './log-fields.ts';

export const WORKER_LOG_EVENTS = {
  request: info('A request was answered, or aborted (LOG_REQUESTS).', {
    method: text('as sent'),
    path: text('without its query'),
    route: text(
      'the pattern that its router has matched, such as `/users/:id`, else the path with all but its first word replaced by `:id`',
    ),
    status: optional(count('status code; absent where the answer has not begun')),
    aborted: optional(field<boolean>('true')('the connection has closed before the answer had ended')),
    ms: count('milliseconds from its headers to the end of the answer, or of the connection'),
    bytes: count('of the answer, with its headers, as passed to the kernel'),
    ...trace,
  }),
  'request.timed-out': warn('The app has not begun to answer a request within HANDLER_TIMEOUT_MS: it got 503.', {
    method: text('as sent'),
    path: text('without its query'),
    ms: count('milliseconds since its headers arrived'),
    unnamed: optional(count('requests like it without a line: a worker writes at most 10 in 10 s')),
    ...trace,
  }),
  'connection.wrong-protocol': warn(
    'A client, or the proxy in front, does not speak HTTP/1.1: it gets 400; logged once a minute.',
    {
      protocol: text('what it speaks'),
      warning,
    },
  ),
  'connections.full': warn('The worker has MAX_CONNECTIONS connections; logged once until it was not full for a minute.', {
    max: count('how many it may have'),
    warning,
  }),
  'concurrency.turning-away': warn(
    'The worker begins to turn requests away (ADAPTIVE_CONCURRENCY); logged once until it has not for a minute.',
    {
      limit: count('how many its app handles at once'),
      warning,
    },
  ),
  'concurrency.recovered': info('The worker has turned no request away for a minute.', {
    rejected: count('requests that got 503'),
    seconds: count('from the first to the last of them'),
  }),
  'request.failed': at(
    'error',
    'warn',
    'debug',
  )(
    'The app threw while it handled a request, and its framework has no handler of the app for that. `warn` where the answer is 4xx; `debug` where the client has left, or may see the error.',
    {
      method: text('as sent'),
      path: text('without its query'),
      status: optional(count('status code of the answer; absent where the client has left')),
      err,
      ...trace,
    },
  ),
  'connections.not-moved': warn(
    'Connections cannot be moved with this version of Node.js: a worker that ends closes them (MOVE_CONNECTIONS).',
    { node: text('version of Node.js'), why: text('what has failed') },
  ),
  'balancing.no-gate': warn('This version of Node.js cannot pause a listener: the policy has no effect.', {
    node: text('version of Node.js'),
  }),
  'primary.malformed-message': warn('A message to a worker was dropped; the first is logged.', { error }),
  'worker.uncaught-exception': fatal('The app threw an error that nobody caught: the worker drains and exits.', { err }),
  'worker.leaves': failure('The app ends its process: the worker drains and exits.', { call: text('what the app called') }),
  'telemetry.not-exported': warn('OpenTelemetry could not export everything before the worker exits.', { error }),
  'worker.close-handler-failed': failure('A handler of `kit.onClose` failed.', { name: functionName, err }),
  'worker.close-handler-timed-out': warn('A handler of `kit.onClose` did not end in its time; the worker goes on.', {
    name: functionName,
    ms: count('milliseconds that it had'),
  }),
  'task.failed': failure('A promise of `kit.task` was rejected.', { err }),
  'worker.tasks-unfinished': warn('Promises of `kit.task` were not settled at the deadline of the drain.', {
    tasks: count('how many'),
  }),
  'app.listens': warn('A server of the app listens on a port that the kit does not serve.', {
    port: count('that port'),
    warning,
  }),
  'app.forks': warn('The app forks workers of its own; logged once for each call.', { call: text('what it called'), warning }),
  'app.sends-message': info('The app sends messages with process.send.', { note: text('what to use instead') }),
  'app.listener-failed': failure('A listener of the app on a process event failed.', { name: text('of the process event'), err }),
  'leader.failed': failure('The start function of `kit.leader` failed; a worker tries again.', {
    name: text('name in `kit.leader`'),
    term: count('its token'),
    err,
  }),
  'leader.ignores-abort': failure('A start function goes on without the lock.', {
    name: text('name in `kit.leader`'),
    term: count('its token'),
    warning,
  }),
  'session.store-failed': debug('The session store failed a request.', { err }),
  'upgrade.handler-failed': failure('The listener of `kit.onUpgrade` failed.', { err }),
  'broadcast.handler-failed': failure('A handler of `kit.on` failed.', { name: text('of the broadcast event'), err }),
  'metrics.collect-failed': failure("The app's metrics could not be collected; logged once until they can.", { err }),
  'metrics.too-many': warn('The app has too many metrics; the rest is dropped.', {
    metrics: count('how many metrics'),
    values: count('how many values'),
    warning,
  }),
} as const satisfies Record<string, Entry<Level, Fields>>;
