/* What is plotted: lines of the samples. `at` is a line's value in a sample; `own`, where lines are stacked, what the legend shows. */
const BYTE_STEPS = Array.from({ length: 24 }, (_, power) => 2 ** (20 + power));
const MAX_LINES = 24;
const orNull = value => value ?? null;

/** By their place in `statuses`, from the bottom: there the size of the errors can be read. */
const CLASSES = [
  { label: '5xx', color: '--bad', place: 3 },
  { label: '4xx', color: '--warn', place: 2 },
  { label: '3xx', color: '--dim', place: 1 },
  { label: '2xx', color: '--blue', place: 0 },
];

/** The sum of all first: each next one is drawn over it. */
const classLines = () =>
  CLASSES.map(({ label, color, place }, index) => ({
    label,
    color,
    isStacked: true,
    own: ({ statuses }) => statuses[place],
    at: ({ statuses }) => CLASSES.slice(0, index + 1).reduce((sum, below) => sum + statuses[below.place], 0),
  })).reverse();

const idsOf = samples =>
  [...new Set(samples.flatMap(({ workers }) => Object.keys(workers)))]
    .map(Number)
    .sort((a, b) => a - b)
    .slice(0, MAX_LINES);

/** A line per worker. */
const byWorker = position => samples =>
  idsOf(samples).map(id => ({ label: String(id), color: colorOf(id), at: ({ workers }) => orNull(workers[id]?.[position]) }));

/** A line per pod, the latest ones first where they are many. */
const byPod = position => samples => {
  const names = [...new Set(samples.toReversed().flatMap(({ pods = {} }) => Object.keys(pods)))].slice(0, MAX_LINES).sort();
  return names.map((name, index) => ({
    label: name,
    color: colorOf(index + 1),
    at: ({ pods = {} }) => (Object.hasOwn(pods, name) ? pods[name][position] : null),
  }));
};

const POD_PLOTS = [
  {
    title: 'Answers per second',
    note: 'stacked by status class',
    help: 'All answers of the pod by the first digit of their status.',
    unit: formatRate,
    lines: classLines,
  },
  {
    title: 'Response time',
    help: 'p99 is of the slowest worker, p50 the mean of the workers’ medians by their requests; both of the last 5 to 10 seconds.',
    unit: formatMs,
    lines: () => [
      { label: 'p99', color: '--warn', at: ({ p99 }) => p99 },
      { label: 'p50', color: '--blue', at: ({ p50 }) => p50 },
    ],
  },
  {
    title: 'Event loop',
    note: 'share of time busy, by worker',
    help: 'Event loop utilization: a worker at 100 % cannot do more, however many CPUs are free.',
    unit: formatPercent,
    most: 1,
    lines: byWorker(1),
  },
  {
    title: 'Requests per second',
    note: 'by worker',
    help: 'How the load is spread over the workers.',
    unit: formatRate,
    lines: byWorker(0),
  },
  {
    title: 'CPU',
    help: 'CPUs that all processes use, the limit, and seconds per second in which the quota withheld CPUs.',
    unit: formatCores,
    lines: () => [
      { label: 'limit', color: '--dim', dash: [6, 4], at: ({ cpuLimit }) => cpuLimit },
      { label: 'used', color: '--blue', isFilled: true, at: ({ cpus }) => cpus },
      { label: 'withheld', color: '--bad', at: ({ throttled }) => throttled },
    ],
  },
  {
    title: 'Memory',
    help: 'Of all processes; what they share counts once. With a limit: that limit.',
    unit: formatBytes,
    steps: BYTE_STEPS,
    lines: samples => [
      ...(samples.at(-1)?.limitBytes
        ? [{ label: 'limit', color: '--dim', dash: [6, 4], at: ({ limitBytes }) => limitBytes }]
        : []),
      { label: 'used', color: '--blue', isFilled: true, at: ({ memoryBytes }) => memoryBytes },
    ],
  },
];

const FLEET_PLOTS = [
  {
    title: 'Requests per second',
    note: 'by pod',
    help: 'Answers of each pod, from its heartbeats.',
    unit: formatRate,
    lines: byPod(0),
  },
  {
    title: 'Errors per second',
    note: 'by pod',
    help: 'Answers with a status of 500 or above.',
    unit: formatRate,
    lines: byPod(1),
  },
  { title: 'p99', note: 'by pod', help: 'Of the slowest worker of each pod.', unit: formatMs, lines: byPod(2) },
  {
    title: 'CPU',
    note: 'CPUs in use, by pod',
    help: 'CPUs that the processes of each pod use.',
    unit: formatCores,
    lines: byPod(3),
  },
  {
    title: 'Memory',
    note: 'by pod',
    help: 'Of all processes of each pod.',
    unit: formatBytes,
    steps: BYTE_STEPS,
    lines: byPod(4),
  },
];
