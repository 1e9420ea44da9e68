/* uPlot over the samples of ten minutes. A plot is made again when its lines or the colours of the page change. */
const HEIGHT = 170;
const SPAN_SECONDS = 600;
/** A young pod's plots begin with this span, and grow. */
const MIN_SPAN_SECONDS = 60;
const BYTE_STEPS = Array.from({ length: 24 }, (_, power) => 2 ** (20 + power));
const orNull = value => value ?? null;

/** From a CSS variable to a colour that a canvas takes: light-dark() is resolved by an element only. */
function ink(name) {
  const probe = document.body.appendChild(make('i'));
  probe.style.color = `var(${name})`;
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

const idsOf = samples => [...new Set(samples.flatMap(({ workers }) => Object.keys(workers)))].map(Number).sort((a, b) => a - b);

const PLOTS = [
  {
    title: 'Requests per second',
    note: 'stacked by worker',
    unit: formatNumber,
    // The sum first, so that each lower one is painted over it.
    lines: samples => {
      const ids = idsOf(samples);
      return ids
        .map((id, index) => ({
          color: colorOf(id),
          fill: true,
          at: ({ workers }) => ids.slice(0, index + 1).reduce((sum, each) => sum + (workers[each]?.[0] ?? 0), 0),
        }))
        .reverse();
    },
  },
  {
    title: 'Response time',
    note: 'p50, and p99 of the slowest worker',
    unit: formatMs,
    lines: () => [
      { color: '--warn', at: ({ p99 }) => p99 },
      { color: '--blue', at: ({ p50 }) => p50 },
    ],
  },
  {
    title: 'Event loop',
    note: 'share of time busy, by worker',
    unit: formatPercent,
    most: 1,
    lines: samples => idsOf(samples).map(id => ({ color: colorOf(id), at: ({ workers }) => orNull(workers[id]?.[1]) })),
  },
  {
    title: 'CPU',
    note: 'used, limit (dashed), withheld by the quota',
    unit: value => value.toFixed(1),
    lines: () => [
      { color: '--dim', dash: [6, 4], at: ({ cpuLimit }) => cpuLimit },
      { color: '--blue', fill: true, at: ({ cpus }) => cpus },
      { color: '--bad', at: ({ throttled }) => throttled },
    ],
  },
  {
    title: 'Memory',
    note: 'all processes, limit (dashed)',
    unit: formatBytes,
    steps: BYTE_STEPS,
    lines: () => [
      { color: '--dim', dash: [6, 4], at: ({ limitBytes }) => limitBytes },
      { color: '--blue', fill: true, at: ({ memoryBytes }) => memoryBytes },
    ],
  },
];

const drawn = PLOTS.map(() => ({ key: '', plot: undefined, box: undefined }));

function showPlots(samples) {
  PLOTS.forEach((kind, index) => {
    const figure = drawn[index];
    figure.box ??= addFigure(kind);
    const lines = kind.lines(samples);
    const key = lines.map(({ color }) => color).join();
    const data = [samples.map(({ at }) => at / 1000), ...lines.map(({ at }) => samples.map(at))];
    if (figure.plot !== undefined && figure.key === key) {
      figure.plot.setData(data);
      return;
    }
    figure.plot?.destroy();
    figure.key = key;
    figure.plot = new uPlot(optionsOf(kind, lines, figure.box.clientWidth), data, figure.box);
  });
}

function addFigure({ title, note }) {
  const box = make('div');
  byId('plots').append(make('figure', '', make('figcaption', '', title, make('span', '', note)), box));
  return box;
}

function optionsOf({ unit, most, steps }, lines, width) {
  const axis = {
    stroke: ink('--dim'),
    grid: { stroke: ink('--line'), width: 1 },
    ticks: { show: false },
    font: '11px system-ui',
  };
  const clock = { hour: '2-digit', minute: '2-digit', second: '2-digit' };
  return {
    width: Math.max(200, width),
    height: HEIGHT,
    cursor: { show: false },
    scales: {
      x: { range: (_, first, last) => [Math.max(last - SPAN_SECONDS, Math.min(first, last - MIN_SPAN_SECONDS)), last] },
      y: { range: (_, __, highest) => [0, most ?? (highest > 0 ? highest * 1.1 : 1)] },
    },
    axes: [
      {
        ...axis,
        size: 26,
        space: 90,
        values: (_, ticks) => ticks.map(at => new Date(at * 1000).toLocaleTimeString('en-GB', clock)),
      },
      { ...axis, size: 62, space: 36, ...(steps && { incrs: steps }), values: (_, ticks) => ticks.map(unit) },
    ],
    series: [
      {},
      ...lines.map(({ color, dash, fill }) => {
        const stroke = color.startsWith('--') ? ink(color) : color;
        return {
          stroke,
          width: 1.5,
          points: { show: false },
          ...(dash && { dash }),
          ...(fill && { fill: color.startsWith('--') ? stroke.replace('rgb(', 'rgba(').replace(')', ', 0.18)') : stroke }),
        };
      }),
    ],
  };
}

/** Colours and widths are read again. */
function redrawPlots(samples) {
  for (const figure of drawn) figure.key = '';
  showPlots(samples);
}

new ResizeObserver(() => {
  for (const { plot, box } of drawn) plot?.setSize({ width: Math.max(200, box.clientWidth), height: HEIGHT });
}).observe(byId('plots'));
