/** What happens when: from SIGTERM to the exit, and a rolling restart. Each ends with what a client sees. */
import {
  COLORS,
  type Colors,
  fits,
  LINE_HEIGHT,
  type Look,
  line,
  linesOf,
  MARGIN,
  opaqueArea,
  paragraph,
  svg,
  text,
  textOverLines,
  widthOf,
  widthOfText,
} from './svg.ts';

export interface Deadlines {
  delaySeconds: number;
  timeoutSeconds: number;
  /** After SIGTERM the platform kills. */
  graceSeconds: number;
  /** During a shutdown an idle connection ends after this. */
  quietSeconds: number;
}

interface Bar {
  from: number;
  to: number;
  color: keyof Omit<Colors, 'series' | 'page'>;
  /** Shown in the bar if it fits, else below. */
  label: string;
}

interface Row {
  name: string;
  bars: readonly Bar[];
}

interface Moment {
  at: number;
  color: 'ink' | 'bad';
  label: string;
}

interface Timeline {
  title: string;
  /** The end of the scale, in its unit. */
  last: number;
  moments: readonly Moment[];
  rows: readonly (Row | string)[];
  note: string;
}

const NAMES_WIDTH = 150;
const BAR = 22;

/** Rows of bars on one scale; a string among the rows is a heading. On a narrow picture the name of a row stands above it. */
function draw(look: Look, { title, last, moments, rows, note }: Timeline): string {
  const colors = COLORS[look.scheme];
  const left = look.isNarrow ? MARGIN : MARGIN + NAMES_WIDTH;
  const width = widthOf(look) - MARGIN - left;
  const at = (time: number) => left + (width * time) / last;
  const top = MARGIN + moments.length * LINE_HEIGHT + 6;
  const parts: string[] = [];
  const say = (x: number, y: number, color: string, content: string, weight = 400) =>
    parts.push(textOverLines(x, y, color, content, colors.page, { weight }));
  let y = top + 10;
  for (const row of rows) {
    if (typeof row === 'string') {
      say(MARGIN, y + 15, colors.ink, row, 700);
      y += 24;
      continue;
    }
    say(MARGIN, y + 15, colors.ink, row.name);
    if (look.isNarrow) y += 22;
    let below = 0;
    for (const { from, to, color, label } of row.bars) {
      const box = { x: at(from), y, width: at(to) - at(from), height: BAR };
      parts.push(opaqueArea(box, colors[color], colors.page));
      if (label === '') continue;
      if (fits(label, box.width - 10)) parts.push(text(box.x + 7, y + 15.5, colors.ink, label));
      else {
        // From the bar to the right edge if there is room, else from the left edge.
        const x = fits(label, left + width - box.x) ? box.x : left;
        const lines = linesOf(label, left + width - x);
        for (const [index, content] of lines.entries()) say(x, y + BAR + 15 + index * LINE_HEIGHT, colors.quiet, content);
        below = Math.max(below, lines.length * LINE_HEIGHT + 4);
      }
    }
    y += BAR + 8 + below;
  }
  const baseOf = (index: number) => MARGIN + 12 + index * LINE_HEIGHT;
  const lines = moments.map(({ at: time, color }, index) => {
    return line(`M${at(time).toFixed(1)} ${baseOf(index) + 5}V${y}`, colors[color], { isDashed: true, hasHead: false });
  });
  const labels = moments.map(({ at: time, color, label }, index) => {
    const x = Math.max(left, Math.min(at(time), left + width - widthOfText(label) * 1.07));
    return textOverLines(x, baseOf(index), colors[color], label, colors.page, { weight: 600 });
  });
  const foot = paragraph(MARGIN, y + 20, widthOf(look) - 2 * MARGIN, colors.quiet, note);
  return svg(look, y + 14 + foot.height, title, [...lines, ...labels, ...parts, ...foot.parts]);
}

/** From SIGTERM to the exit. The scale is in seconds. */
export function shutdownPicture(look: Look, { delaySeconds, timeoutSeconds, graceSeconds, quietSeconds }: Deadlines): string {
  const deadline = delaySeconds + timeoutSeconds;
  return draw(look, {
    title: 'From SIGTERM to the exit: probes, what a client sees, and deadlines',
    last: graceSeconds + 1,
    moments: [
      { at: 0, color: 'ink', label: 'SIGTERM' },
      { at: delaySeconds, color: 'ink', label: `${delaySeconds} s: the listener closes` },
      { at: deadline, color: 'bad', label: `${deadline} s: what is open is aborted, exit 1` },
      { at: graceSeconds, color: 'bad', label: `${graceSeconds} s: SIGKILL` },
    ],
    rows: [
      'The platform sees',
      { name: '/livez', bars: [{ from: 0, to: deadline, color: 'good', label: '200' }] },
      { name: '/readyz', bars: [{ from: 0, to: deadline, color: 'warn', label: '503: load balancers remove the pod' }] },
      'A client sees',
      {
        name: 'new connection',
        bars: [
          { from: 0, to: delaySeconds, color: 'good', label: 'served' },
          { from: delaySeconds, to: deadline, color: 'rule', label: 'refused; other pods serve' },
        ],
      },
      { name: 'open request', bars: [{ from: 0, to: deadline, color: 'good', label: 'answered; then the connection ends' }] },
      {
        name: 'idle connection',
        bars: [
          {
            from: 0,
            to: delaySeconds + quietSeconds,
            color: 'good',
            label: `ends after an answer, or at ${delaySeconds + quietSeconds} s`,
          },
        ],
      },
    ],
    note: `The process exits with 0 once no request is open. SHUTDOWN_DELAY_MS ${delaySeconds} s, SHUTDOWN_TIMEOUT_MS ${timeoutSeconds} s, grace period ${graceSeconds} s. A second signal exits at once, with 1.`,
  });
}

export interface RestartTimes {
  /** A new worker serves this long before the old one drains. */
  proveSeconds: number;
  /** The pause before the next worker is replaced, if clients have to reconnect. */
  warmUpSeconds: number;
  /** An idle connection that cannot move ends after this. */
  quietSeconds: number;
}

/** Two workers replaced. The scale is in seconds, with a start of a third of a second. */
export function restartPicture(look: Look, { proveSeconds, warmUpSeconds, quietSeconds }: RestartTimes): string {
  const START = 0.4;
  /** Until the open requests of a worker are answered. */
  const DRAIN = 1.6;
  const serves = START;
  const drains = serves + proveSeconds;
  const next = drains + DRAIN;
  const drains2 = next + START + proveSeconds;
  const gone2 = drains2 + DRAIN;
  const last = gone2 + 0.4;
  return draw(look, {
    title: 'A rolling restart of two workers: which process serves, and what a client sees',
    last,
    moments: [
      { at: 0, color: 'ink', label: 'bosun restart: worker 3 starts' },
      { at: drains, color: 'ink', label: `${proveSeconds} s after it serves: worker 1 drains` },
      { at: next, color: 'ink', label: 'the next step: worker 2' },
      { at: gone2, color: 'ink', label: 'done: generation 2 serves' },
    ],
    rows: [
      'Workers',
      {
        name: 'worker 1, old',
        bars: [
          { from: 0, to: drains, color: 'good', label: 'serves' },
          { from: drains, to: next, color: 'warn', label: 'drains' },
        ],
      },
      {
        name: 'worker 3, new',
        bars: [
          { from: 0, to: serves, color: 'rule', label: '' },
          { from: serves, to: last, color: 'good', label: 'serves' },
        ],
      },
      {
        name: 'worker 2, old',
        bars: [
          { from: 0, to: drains2, color: 'good', label: 'serves' },
          { from: drains2, to: gone2, color: 'warn', label: 'drains' },
        ],
      },
      {
        name: 'worker 1, new',
        bars: [
          { from: next, to: next + START, color: 'rule', label: '' },
          { from: next + START, to: last, color: 'good', label: 'serves' },
        ],
      },
      'A client sees',
      { name: 'new connection', bars: [{ from: 0, to: last, color: 'good', label: 'accepted by a worker that serves' }] },
      { name: 'open request', bars: [{ from: 0, to: last, color: 'good', label: 'answered by the worker that has it' }] },
      {
        name: 'open connection',
        bars: [
          { from: 0, to: drains, color: 'good', label: '' },
          { from: drains, to: last, color: 'good', label: 'of worker 1: moves to worker 3 between two requests' },
        ],
      },
    ],
    note: `A connection that cannot move ends after an answer, or ${quietSeconds} s without a request; worker 3 then has ${warmUpSeconds} s to warm up before the next step. If a new worker does not start, the restart ends and the old ones keep serving.`,
  });
}
