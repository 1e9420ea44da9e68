/**
 * The drawn pictures of the documentation, as SVG text: pure. Each is drawn twice, since an SVG on GitHub cannot know the reader's colour scheme.
 */

export type Scheme = 'light' | 'dark';

interface Colors {
  page: string;
  ink: string;
  quiet: string;
  rule: string;
  good: string;
  warn: string;
  bad: string;
  series: readonly string[];
}

const COLORS: Record<Scheme, Colors> = {
  light: {
    page: '#ffffff',
    ink: '#171b21',
    quiet: '#5d6673',
    rule: '#dfe3e8',
    good: '#0b7a4b',
    warn: '#d9730d',
    bad: '#c4332b',
    series: ['#4b5768', '#2563c9', '#8a3fc4', '#0d8a8a'],
  },
  dark: {
    page: '#0d1117',
    ink: '#e8ebef',
    quiet: '#98a2b0',
    rule: '#2a3039',
    good: '#4cc38a',
    warn: '#ffa657',
    bad: '#ff7b72',
    series: ['#a9b4c4', '#6ea8fe', '#c792ea', '#4fd1c5'],
  },
};

const WIDTH = 880;
const LEFT = 176;
const RIGHT = 28;

function svg(height: number, colors: Colors, title: string, parts: string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${title}" font-family="system-ui, sans-serif" font-size="13">`,
    `<title>${title}</title><rect width="100%" height="100%" rx="8" fill="${colors.page}"/>`,
    ...parts,
    '</svg>\n',
  ].join('\n');
}

interface TextOptions {
  anchor?: 'start' | 'middle' | 'end';
  weight?: number;
}

const text = (x: number, y: number, fill: string, content: string, { anchor = 'start', weight = 400 }: TextOptions = {}) =>
  `<text x="${x.toFixed(1)}" y="${y}" fill="${fill}" text-anchor="${anchor}" font-weight="${weight}">${content}</text>`;

export interface Deadlines {
  delaySeconds: number;
  timeoutSeconds: number;
  /** After SIGTERM the platform kills. */
  graceSeconds: number;
}

/** From SIGTERM to the exit: what is open, what is answered, and which deadline ends what. */
export function timelinePicture(scheme: Scheme, { delaySeconds, timeoutSeconds, graceSeconds }: Deadlines): string {
  const colors = COLORS[scheme];
  const last = graceSeconds + 2;
  const at = (seconds: number) => LEFT + ((WIDTH - LEFT - RIGHT) * seconds) / last;
  const cutAt = delaySeconds + timeoutSeconds;
  const [top, step, bar] = [74, 34, 20];
  type Bar = [from: number, to: number, color: string, label: string];
  const rows: [name: string, bars: Bar[]][] = [
    ['/livez', [[0, cutAt, colors.good, '200']]],
    ['/readyz', [[0, cutAt, colors.warn, '503: load balancers take the pod out']]],
    [
      'new connections',
      [
        [0, delaySeconds, colors.good, 'served'],
        [delaySeconds, cutAt, colors.rule, 'listener closed'],
      ],
    ],
    ['answers', [[0, cutAt, colors.warn, 'each ends its connection']]],
    ['open requests', [[0, cutAt, colors.good, 'finish; the process exits with 0 as soon as none is left']]],
    ['the platform', [[0, graceSeconds, colors.rule, 'grace period']]],
  ];
  const bottom = top + rows.length * step;
  const moments: [seconds: number, color: string, label: string, line: number][] = [
    [0, colors.ink, 'SIGTERM', 0],
    [delaySeconds, colors.ink, `${delaySeconds} s: drain`, 1],
    [cutAt, colors.bad, `${cutAt} s: what is left is cut, exit 1`, 0],
    [graceSeconds, colors.bad, `${graceSeconds} s: SIGKILL`, 1],
  ];
  return svg(bottom + 44, colors, 'From SIGTERM to the exit: signals and deadlines', [
    ...moments.flatMap(([seconds, color, label, line]) => [
      `<path d="M${at(seconds).toFixed(1)} ${top - 8}V${bottom}" stroke="${color}" stroke-dasharray="3 3"/>`,
      text(at(seconds), 30 + line * 22, color, label, { anchor: seconds > graceSeconds / 2 ? 'end' : 'start', weight: 600 }),
    ]),
    ...rows.flatMap(([name, bars], row) => {
      const y = top + row * step;
      return [
        text(LEFT - 14, y + 14, colors.ink, name, { anchor: 'end', weight: 600 }),
        ...bars.flatMap(([from, to, color, label]) => {
          const fill = color === colors.rule ? colors.quiet : color;
          const fits = at(to) - at(from) > label.length * 6.6;
          return [
            `<rect x="${at(from).toFixed(1)}" y="${y}" width="${(at(to) - at(from)).toFixed(1)}" height="${bar}" rx="4" fill="${color}" fill-opacity="0.22" stroke="${color}"/>`,
            fits ? text(at(from) + 8, y + 14, fill, label) : '',
          ];
        }),
      ];
    }),
    text(
      LEFT,
      bottom + 26,
      colors.quiet,
      `SHUTDOWN_DELAY_MS ${delaySeconds} s, SHUTDOWN_TIMEOUT_MS ${timeoutSeconds} s; a second signal exits at once, with 1`,
    ),
  ]);
}

export interface Measurement {
  policy: string;
  /** Against rr: minimum, median, maximum; one for each of the names. */
  ratios: readonly (readonly [number, number, number])[];
}

/** A panel for each name, a whisker from minimum to maximum for each policy; the line is rr. */
export function policiesPicture(scheme: Scheme, names: readonly string[], measured: readonly Measurement[]): string {
  const colors = COLORS[scheme];
  const row = 22;
  const panel = measured.length * row + 40;
  const all = measured.flatMap(({ ratios }) => ratios.flat());
  const [low, high] = [Math.log2(Math.min(0.25, ...all)), Math.log2(Math.max(4, ...all))];
  const at = (ratio: number) => LEFT + ((WIDTH - LEFT - RIGHT) * (Math.log2(ratio) - low)) / (high - low);
  const bottom = 16 + names.length * panel;
  const ticks = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8].filter(tick => Math.log2(tick) >= low && Math.log2(tick) <= high);
  return svg(bottom + 40, colors, 'The balancing policies against rr: minimum, median, maximum', [
    ...ticks.map(tick => `<path d="M${at(tick).toFixed(1)} 16V${bottom}" stroke="${tick === 1 ? colors.ink : colors.rule}"/>`),
    ...ticks.map(tick =>
      text(at(tick), bottom + 20, colors.quiet, tick === 1 ? 'as rr' : tick < 1 ? `1/${1 / tick}` : `× ${tick}`, {
        anchor: 'middle',
      }),
    ),
    ...names.flatMap((name, index) => {
      const top = 16 + index * panel;
      return [
        text(16, top + 16, colors.ink, name, { weight: 600 }),
        text(WIDTH - RIGHT, top + 16, colors.quiet, /^(?:CPU|p\d)/.test(name) ? 'less is better' : 'more is better', {
          anchor: 'end',
        }),
        ...measured.flatMap(({ policy, ratios }, which) => {
          const [least, median, most] = ratios[index] ?? [1, 1, 1];
          const y = top + 36 + which * row;
          const color = colors.series[which % colors.series.length] ?? colors.ink;
          return [
            text(LEFT - 14, y + 4, colors.quiet, policy, { anchor: 'end' }),
            `<path d="M${at(least).toFixed(1)} ${y}H${at(most).toFixed(1)}" stroke="${color}" stroke-width="6" stroke-linecap="round" stroke-opacity="0.35"/>`,
            `<circle cx="${at(median).toFixed(1)}" cy="${y}" r="5.5" fill="${color}"/>`,
          ];
        }),
      ];
    }),
  ]);
}
