/* Plots of samples by uPlot, with one cursor for all. A plot is made again when its lines or the colours of the page change. */
const HEIGHT = 160;
const CURSOR_KEY = 'page';
/** Of the time axis, in seconds. */
const TIME_STEPS = [5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800];
/** Half the width of a time with seconds, in pixels. */
const HALF_TIME = 28;
/** The numbers of an axis need none. */
const NO_DECIMALS = /\.0+(?=\D|$)/;

/** From a CSS variable to a colour that a canvas takes: light-dark() is resolved by an element only. */
function ink(name) {
  if (!name.startsWith('--')) return name;
  const probe = document.body.appendChild(make('i'));
  probe.style.color = `var(${name})`;
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

const faint = (color, alpha) => color.replace(/^(rgb|hsl)\((.*)\)$/, `$1($2 / ${alpha})`).replaceAll(', ', ' ');

/** What is drawn, by plot. */
let figures = [];

/** Shows `kinds` of plots: others than before replace those. */
function setPlots(kinds) {
  for (const { plot } of figures) plot?.destroy();
  figures = kinds.map(kind => ({ kind, key: '', ...addFigure(kind) }));
  byId('plots').replaceChildren(...figures.map(({ element }) => element));
}

function addFigure({ title, note = '', help }) {
  const box = make('div', 'plot');
  box.tabIndex = 0;
  box.setAttribute('role', 'img');
  const caption = explain(make('figcaption', '', title, make('span', 'note', note)), title, help);
  return { element: make('figure', '', caption, box), box };
}

/** `marks` are the events that every plot marks. */
function showPlots(samples, range, marks) {
  const span = spanOf(samples, range);
  for (const figure of figures) {
    const lines = figure.kind.lines(samples);
    const key = lines.map(({ label, color }) => `${label} ${color}`).join();
    const data = [samples.map(({ at }) => at / 1000), ...lines.map(({ at }) => samples.map(at))];
    Object.assign(figure, { samples, lines, span, marks });
    if (figure.plot === undefined || figure.key !== key) {
      figure.plot?.destroy();
      figure.key = key;
      figure.plot = new uPlot(optionsOf(figure), data, figure.box);
      figure.box.onkeydown = event => moveCursor(figure.plot, event);
      figure.box.onblur = () => figure.plot.setCursor({ left: -10, top: -10 }, true, true);
      figure.plot.root.querySelector('.u-legend').setAttribute('aria-hidden', 'true');
    } else figure.plot.setData(data);
    showLatest(figure.plot);
    figure.box.setAttribute('aria-label', inWords(figure, range));
  }
}

/** The legend has the last values while no cursor is shown. */
function showLatest(plot) {
  if (plot.cursor.left === undefined || plot.cursor.left < 0) plot.setLegend({ idx: plot.data[0].length - 1 }, false);
}

/** The text alternative: each line with its last, lowest and highest value. */
function inWords({ kind: { title, note = '', unit }, lines, samples }, range) {
  const each = lines.map(({ label, own, at }) => {
    const values = samples.map(own ?? at).filter(value => value !== null);
    if (values.length === 0) return `${label}: unknown`;
    return `${label}: ${unit(values.at(-1))}, lowest ${unit(Math.min(...values))}, highest ${unit(Math.max(...values))}`;
  });
  return `${[title, note].filter(Boolean).join(', ')}, last ${RANGES[range].words}. ${each.join('; ')}. Arrow keys read single values.`;
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1 };

/** Moves the cursor of all plots to the sample beside, and reads its values. */
function moveCursor(plot, event) {
  const step = STEPS[event.key];
  if (step === undefined) return;
  event.preventDefault();
  const [times] = plot.data;
  const at = plot.cursor.left >= 0 ? plot.cursor.idx : times.length - 1 - step;
  const index = Math.max(0, Math.min(times.length - 1, at + step));
  plot.setCursor({ left: plot.valToPos(times[index], 'x'), top: 20 }, true, true);
  const { lines, samples, kind } = figures.find(figure => figure.plot === plot);
  const values = lines.map(({ label, own, at: valueAt }) => `${label} ${shownValue(kind, (own ?? valueAt)(samples[index]))}`);
  write(byId('reading'), `${formatClock(times[index] * 1000)}: ${values.join(', ')}`);
}

const shownValue = ({ unit }, value) => (value === null ? NONE : unit(value));

function optionsOf(figure) {
  const { kind, lines, box } = figure;
  const { unit, most, steps } = kind;
  const axis = {
    stroke: ink('--dim'),
    grid: { stroke: ink('--line'), width: 1 },
    ticks: { show: false },
    font: '12px system-ui',
  };
  const stacked = lines.filter(({ isStacked }) => isStacked);
  return {
    width: Math.max(200, box.clientWidth),
    height: HEIGHT,
    // The last time on the axis is centred under its tick.
    padding: [null, HALF_TIME, null, null],
    cursor: { y: false, drag: { x: false }, points: { size: 6 }, sync: { key: CURSOR_KEY, setSeries: false } },
    hooks: { setCursor: [showLatest], draw: [plot => drawMarks(plot, figure.marks)] },
    scales: {
      x: { range: () => figure.span },
      y: { range: (_, __, highest) => [0, most ?? (highest > 0 ? highest * 1.1 : 1)] },
    },
    axes: [
      { ...axis, size: 28, gap: 8, space: 64, incrs: TIME_STEPS, values: timeLabels },
      {
        ...axis,
        size: 62,
        space: 36,
        ...(steps && { incrs: steps }),
        values: (_, ticks) => ticks.map(tick => unit(tick).replace(NO_DECIMALS, '')),
      },
    ],
    series: [
      { label: '', value: (_, at) => (at === null ? NONE : formatClock(at * 1000)) },
      ...lines.map(({ label, color, dash, isFilled, isStacked, own }) => {
        const stroke = ink(color);
        return {
          label,
          stroke,
          width: 1.5,
          points: { show: false },
          value: (_, value, __, index) => shownValue(kind, own && index !== null ? own(figure.samples[index]) : value),
          ...(dash && { dash }),
          ...((isFilled || isStacked) && { fill: faint(stroke, isStacked ? 0.45 : 0.18) }),
        };
      }),
    ],
    bands: stacked.slice(1).map((_, index) => ({ series: [index + 1, index + 2] })),
  };
}

function timeLabels(plot, ticks) {
  const isShort = plot.scales.x.max - plot.scales.x.min < 300;
  return ticks.map(at => (isShort ? formatClock : formatMinute)(at * 1000));
}

/** A thin line for each event that explains a change: what failed, restarts, and resizes. */
function drawMarks(plot, marks = []) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.setLineDash([3, 3]);
  for (const { at, color } of marks) {
    if (at / 1000 < plot.scales.x.min) continue;
    const x = Math.round(plot.valToPos(at / 1000, 'x', true));
    ctx.strokeStyle = ink(color);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

/** Colours are read again. */
function forgetColors() {
  for (const figure of figures) figure.key = '';
}

new ResizeObserver(() => {
  for (const { plot, box } of figures) plot?.setSize({ width: Math.max(200, box.clientWidth), height: HEIGHT });
}).observe(byId('plots'));
