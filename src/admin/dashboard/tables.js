/* The smaller tables of this pod: errors, routes, health checks and leaders. */
const CHECK_PILLS = { ok: 'ready', failing: 'lost', unknown: '' };

const CHECK_COLUMNS = [
  { label: 'check', help: 'The name that the app gave it with kit.health.', left: true, show: text(({ name }) => name) },
  {
    label: 'state',
    help: 'ok, failing in at least one worker, or unknown: it has not run for too long.',
    left: true,
    ch: 8,
    show: (cell, { state }) => pill(cell, CHECK_PILLS[state], state),
  },
  {
    label: 'fails in',
    help: 'In how many workers its last run has failed.',
    show: text(({ failing, workers }) => `${failing} of ${workers}`),
  },
  {
    label: 'last run',
    help: 'How long the slowest of the last runs took.',
    ch: 8,
    show: text(({ durationMs }) => formatMs(durationMs)),
  },
  { label: 'how it fails', help: 'The error of its last run.', left: true, show: text(howItFails) },
];

function howItFails({ failure = '', failures, message, isUnready }) {
  const often = failures > 1 ? ` (${failures} times in a row)` : '';
  return [failure && `${failure}${often}`, message, isUnready && 'the pod is not ready because of it'].filter(Boolean).join(': ');
}

const ERROR_COLUMNS = [
  { label: 'last', help: 'When it last happened.', ch: 8, show: text(({ at }) => formatClock(at)) },
  { label: 'count', help: 'How many times, since the primary started.', ch: 6, show: text(({ count }) => formatCount(count)) },
  {
    label: 'status',
    help: 'The status of the answer; none where the error ended a worker.',
    ch: 4,
    show: text(({ status: answer }) => answer ?? NONE),
  },
  {
    label: 'route',
    help: 'The method and the route.',
    left: true,
    show: text(({ method, route }) => [method, route].filter(Boolean).join(' ') || NONE),
  },
  {
    label: 'error',
    help: 'Its class and code.',
    left: true,
    show: text(({ class: name, code }) => [name, code].filter(Boolean).join(' ')),
  },
  {
    label: 'where',
    help: 'File and line of the app.',
    left: true,
    show: text(({ file, line }) => (file ? `${file}:${line}` : NONE)),
  },
  { label: 'last worker', help: 'The worker that last had it.', show: text(({ worker }) => worker) },
  {
    label: 'message',
    help: 'The message of the error. It is shown only where ADMIN_TOKEN is set: it may contain secrets.',
    left: true,
    when: rows => rows.some(({ message }) => message),
    show: text(({ message = '' }) => message),
  },
];

const ROUTE_COLUMNS = [
  { label: 'route', help: 'The method and the route.', left: true, show: text(({ method, route }) => `${method} ${route}`) },
  {
    label: 'share of time',
    help: 'Of the response times of all requests together.',
    ch: 14,
    show: meter(
      ({ share }) => share,
      ({ share }) => formatPercent(share),
    ),
  },
  { label: 'mean', help: 'Mean response time.', ch: 8, show: text(({ meanMs }) => formatMs(meanMs)) },
  { label: 'requests', help: 'Requests that were answered.', ch: 8, show: text(({ requests }) => formatCount(requests)) },
  { label: 'failed', help: 'Of them, with a status of 500 or above.', ch: 6, show: text(({ errors }) => formatCount(errors)) },
];

const LEADER_COLUMNS = [
  { label: 'leader', help: 'The name that the app gave it with kit.leader.', left: true, show: text(({ name }) => name) },
  {
    label: 'scope',
    help: 'fleet: one worker of all pods leads. pod: one in each pod.',
    left: true,
    show: text(({ scope }) => scope),
  },
  {
    label: 'led by',
    help: 'The pod and the worker that lead now.',
    left: true,
    show: text(({ holder }) =>
      holder ? `${holder.pod}${holder.isSelf ? ' (this one)' : ''}, worker ${holder.worker}` : 'nobody',
    ),
  },
  {
    label: 'since',
    help: 'How long it has led.',
    ch: 7,
    show: text(({ holder }) => (holder ? formatDuration(Math.max(0, Date.now() - holder.since) / 1000) : NONE)),
  },
];

const named = (record = {}) => Object.entries(record).map(([name, entry]) => ({ name, ...entry }));
