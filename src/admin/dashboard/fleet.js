/* The pods of this deployment: their table, and what the tiles say of all of them. All of it comes from their heartbeats. */

/** Heartbeats come once a second. */
const SILENT_POD_S = 3;
const isSilentPod = ({ silentSeconds }) => silentSeconds > SILENT_POD_S;

const POD_COLUMNS = [
  {
    label: 'pod',
    help: 'The host name of the pod, or the id of its container.',
    left: true,
    show: text(({ pod, isSelf }) => `${pod}${isSelf ? ' (this one)' : ''}`),
  },
  { label: 'version', help: 'Of koa-bosun.', left: true, show: text(({ version }) => version) },
  {
    label: 'state',
    help: 'starting, ready or draining, as of its last heartbeat; or how long it has sent none.',
    left: true,
    ch: 13,
    show: (cell, peer) => {
      const silent = isSilentPod(peer);
      pill(cell, silent ? 'lost' : peer.state, silent ? `silent ${formatDuration(peer.silentSeconds)}` : peer.state);
    },
  },
  {
    label: 'workers',
    help: 'Workers that serve, of those that are wanted.',
    show: text(({ workers, wanted }) => `${workers} of ${wanted}`),
  },
  {
    label: 'in use',
    help: 'How full the pod is, over 15 s: the larger of event loop utilization and CPU time by limit. Autoscalers can follow it.',
    ch: 14,
    show: meter(
      ({ utilization }) => utilization,
      ({ utilization }) => orNone(utilization, formatPercent),
    ),
  },
  {
    label: 'requests/s',
    help: 'Answers per second, by its last two reports.',
    ch: 6,
    show: text(({ requestsPerSecond }) => formatRate(requestsPerSecond)),
  },
  {
    label: '5xx/s',
    help: 'Answers with a status of 500 or above, per second.',
    ch: 6,
    show: text(({ errors }) => orNone(errors?.['5xx'], formatRate)),
  },
  { label: 'p99', help: 'Of its slowest worker.', ch: 8, show: text(({ p99Ms }) => formatMs(p99Ms)) },
  { label: 'open', help: 'Open requests.', ch: 4, show: text(({ inFlight }) => orNone(inFlight, formatCount)) },
  {
    label: 'CPU',
    help: 'CPUs in use, of those that the pod may use.',
    ch: 10,
    show: text(({ cpus, cpuLimit }) => (cpus === undefined ? NONE : `${formatCores(cpus)} of ${formatLimit(cpuLimit)}`)),
  },
  {
    label: 'memory',
    help: 'Of all its processes. The bar, with a memory limit only: of that limit.',
    ch: 16,
    show: meter(
      ({ memoryBytes, limitBytes }) => limitBytes && memoryBytes / limitBytes,
      ({ memoryBytes }) => orNone(memoryBytes, formatBytes),
    ),
  },
];

/** The sum of a figure over the pods that send it. */
const over = (pods, pick) => pods.reduce((total, pod) => total + (pick(pod) ?? 0), 0);

/** The tiles of all pods that still send heartbeats. */
function fleetTiles(all) {
  const pods = all.filter(pod => !isSilentPod(pod));
  const rate = over(pods, ({ requestsPerSecond }) => requestsPerSecond);
  const errors = over(pods, ({ errors: rates }) => rates?.['5xx']);
  const used = pods.flatMap(({ utilization }) => utilization ?? []);
  const isLimited = pods.every(({ limitBytes }) => limitBytes !== undefined);
  const limit = over(pods, ({ limitBytes }) => limitBytes);
  return [
    tile('pods ready', 'Pods whose state is ready, of those that have sent a heartbeat in the last 30 seconds.', {
      value: String(pods.filter(({ state }) => state === 'ready').length),
      of: `of ${all.length}`,
    }),
    tile('workers', 'Workers that serve, of those that are wanted.', {
      value: formatCount(over(pods, ({ workers }) => workers)),
      of: `of ${formatCount(over(pods, ({ wanted }) => wanted))}`,
    }),
    rateTile(rate),
    errorTile(errors, rate > 0 ? Math.min(1, errors / rate) : 0),
    tile('p99', 'Of the slowest worker of all pods, over the last 5 to 10 seconds.', {
      value: formatMs(Math.max(0, ...pods.map(({ p99Ms }) => p99Ms))),
    }),
    openTile(over(pods, ({ inFlight }) => inFlight)),
    cpuTile(
      over(pods, ({ cpus }) => cpus),
      over(pods, ({ cpuLimit }) => cpuLimit),
    ),
    memoryTile(
      over(pods, ({ memoryBytes }) => memoryBytes),
      isLimited ? limit : null,
    ),
    usedTile(used.length === 0 ? null : used.reduce((sum, share) => sum + share, 0) / used.length),
  ];
}
