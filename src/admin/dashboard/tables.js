/* The smaller tables of this pod: health checks and leaders. */
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
