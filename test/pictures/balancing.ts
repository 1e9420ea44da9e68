/**
 * How a connection finds its worker, a panel for each policy: the kernel's queue, accept gates, the scoreboard, the wake-up signal. Which
 * gates are open is the kit's own decision on the loads that are drawn.
 */
import { betterOff, isGated, type Load, RULES } from '../../src/balancing/policy.ts';
import { POLICIES, POLICY_HELP, type Policy } from '../../src/config/variables.ts';
import { area, COLORS, type Look, labelled, line, MARGIN, paragraph, svg, text, widthOf } from './svg.ts';

export interface BalancingFacts {
  /** A worker this many times slower than the median counts as slow. */
  slowFactor: number;
  /** How often a closed gate wakes the better workers. */
  minCheckMs: number;
  maxCheckMs: number;
}

interface Drawn {
  connections: number;
  responseMs: number;
  turns: number;
}

/** Chosen so that each policy selects another worker. */
const WORKERS: readonly Drawn[] = [
  { connections: 3, responseMs: 5, turns: 8 },
  { connections: 2, responseMs: 40, turns: 8 },
  { connections: 4, responseMs: 5, turns: 7 },
];

const loadOf = ({ connections, responseMs, turns }: Drawn, index: number): Load => ({
  sequence: 1,
  connections,
  responseMs,
  turns,
  averagedAt: 0,
  takenAt: index,
});

/** For each worker: whether its gate is open. Undefined for a policy without gates. */
export function gatesOf(policy: Policy): boolean[] | undefined {
  if (!isGated(policy)) return undefined;
  const loads = WORKERS.map(loadOf);
  return loads.map(
    own =>
      betterOff(
        policy,
        own,
        loads.filter(other => other !== own),
        0,
      ).length === 0,
  );
}

const shown = {
  rr: ({ turns }: Drawn) => `${turns} turns`,
  none: ({ connections }: Drawn) => `${connections} connections`,
  reuseport: ({ connections }: Drawn) => `${connections} connections`,
  'least-connections': ({ connections }: Drawn) => `${connections} connections`,
  'response-time': ({ connections, responseMs }: Drawn) => `${connections} conn., ${responseMs} ms`,
} satisfies Record<Policy, (worker: Drawn) => string>;

/** What the policy compares on the scoreboard. */
const reported = {
  rr: ({ turns }: Drawn) => `${turns} turns`,
  none: () => '',
  reuseport: () => '',
  'least-connections': ({ connections }: Drawn) => String(connections),
  'response-time': ({ connections, responseMs }: Drawn) => `${connections} at ${responseMs} ms`,
} satisfies Record<Policy, (worker: Drawn) => string>;

const explained = ({ slowFactor, minCheckMs, maxCheckMs }: BalancingFacts) =>
  ({
    rr: 'Each worker counts its turns on the scoreboard. The one with the fewest accepts; the others keep their gate closed.',
    none: 'Every gate stays open, and the load does not matter.',
    reuseport: 'Each worker has a queue of its own: a connection waits there even if the worker is blocked.',
    'least-connections': `A worker with more connections than another closes its gate. Every ${minCheckMs} to ${maxCheckMs} ms it wakes the better ones (SIGURG), and stops waiting for one that does not answer.`,
    'response-time': `As least-connections, but the connections of a worker more than ${slowFactor} times slower than the median are weighted by that factor.`,
  }) satisfies Record<Policy, string>;

const DRAWING = { width: 352, height: 144 };
const SCOREBOARD_HEIGHT = 34;
const [QUEUE_WIDTH, WORKER_WIDTH, WORKER_HEIGHT, STEP] = [76, 152, 40, 49];

export function connectionsPicture(look: Look, facts: BalancingFacts): string {
  const colors = COLORS[look.scheme];
  const textWidth = look.isNarrow ? widthOf(look) - 2 * MARGIN : widthOf(look) - 3 * MARGIN - DRAWING.width;
  const parts: string[] = [];
  let y = MARGIN;
  for (const policy of POLICIES) {
    const about = paragraph(
      MARGIN,
      y + 38,
      textWidth,
      colors.quiet,
      `${sentence(POLICY_HELP[policy])} ${explained(facts)[policy]}`,
    );
    parts.push(text(MARGIN, y + 16, colors.ink, policy, { weight: 700 }), ...about.parts);
    const x = look.isNarrow ? MARGIN : widthOf(look) - MARGIN - DRAWING.width;
    const top = look.isNarrow ? y + 34 + about.height : y + 4;
    parts.push(...panel(look, policy, x, top));
    y = Math.max(top + DRAWING.height + (comparesLoads(policy) ? SCOREBOARD_HEIGHT : 0), y + 34 + about.height) + 12;
    parts.push(line(`M${MARGIN} ${y}L${widthOf(look) - MARGIN} ${y}`, colors.rule, { hasHead: false }));
    y += 10;
  }
  const legend = paragraph(MARGIN, y + 14, widthOf(look) - 2 * MARGIN, colors.quiet, LEGEND);
  return svg(look, y + legend.height + 12, 'How a connection finds its worker with each balancing policy', [
    ...parts,
    ...legend.parts,
  ]);
}

const LEGEND =
  'The same three workers each time. A green bar is an open accept gate, a red one a closed gate: the connection stays in the queue for another worker. SIGURG is the wake-up signal.';

/** Whether the workers of this policy read each other's loads. */
const comparesLoads = (policy: Policy) => gatesOf(policy)?.includes(false) === true;

function panel(look: Look, policy: Policy, x: number, y: number): string[] {
  const colors = COLORS[look.scheme];
  const gates = gatesOf(policy);
  const rightX = x + DRAWING.width - WORKER_WIDTH;
  const gateX = rightX - 20;
  const centre = (index: number) => y + index * STEP + WORKER_HEIGHT / 2;
  const workers = WORKERS.flatMap((worker, index) => {
    const isOpen = gates === undefined || gates[index] === true;
    const box = { x: rightX, y: centre(index) - WORKER_HEIGHT / 2, width: WORKER_WIDTH, height: WORKER_HEIGHT };
    return [
      ...labelled(box, isOpen ? colors.good : colors.rule, colors.ink, [`worker ${index + 1}`, shown[policy](worker)]),
      ...(gates === undefined ? [] : [gate(gateX, centre(index), isOpen ? colors.good : colors.bad, isOpen)]),
    ];
  });
  const shared = RULES[policy].listener === 'shared';
  const queues = shared
    ? labelled({ x, y: centre(0) - 20, width: QUEUE_WIDTH, height: 2 * STEP + 40 }, colors.series[1] ?? colors.ink, colors.ink, [
        'one',
        'kernel',
        'queue',
      ])
    : WORKERS.flatMap((_, index) =>
        labelled({ x, y: centre(index) - 18, width: QUEUE_WIDTH, height: 36 }, colors.series[1] ?? colors.ink, colors.ink, [
          `queue ${index + 1}`,
        ]),
      );
  const ways = WORKERS.flatMap((_, index) => {
    const isOpen = gates?.[index] !== false;
    const to = gates === undefined ? rightX - 4 : isOpen ? rightX - 4 : gateX - 6;
    return [
      line(`M${x + QUEUE_WIDTH + 4} ${centre(index)}L${to} ${centre(index)}`, isOpen ? colors.ink : colors.quiet, {
        hasHead: isOpen,
        isDashed: !isOpen,
      }),
    ];
  });
  if (gates === undefined || !comparesLoads(policy)) return [...queues, ...ways, ...workers];
  const scoreboard = { x, y: y + DRAWING.height + 2, width: DRAWING.width, height: 26 };
  const loads = `scoreboard: ${WORKERS.map(reported[policy]).join(' · ')}`;
  return [
    ...queues,
    ...ways,
    ...workers,
    ...wakeUp(look, gateX, gates, centre),
    area(scoreboard, colors.series[2] ?? colors.ink),
    text(x + DRAWING.width / 2, scoreboard.y + 17.5, colors.ink, loads, { anchor: 'middle' }),
  ];
}

/** The gate of a worker: a bar across its way, or one beside it. */
function gate(x: number, y: number, color: string, isOpen: boolean): string {
  const [from, to] = isOpen ? [y - 17, y - 6] : [y - 12, y + 12];
  return `<path d="M${x} ${from}V${to}" stroke="${color}" stroke-width="5" stroke-linecap="round"/>`;
}

/** From a worker whose gate is closed to the one that it waits for. */
function wakeUp(look: Look, gateX: number, gates: readonly boolean[], centre: (index: number) => number): string[] {
  const colors = COLORS[look.scheme];
  const [open, closed] = [gates.indexOf(true), gates.lastIndexOf(false)];
  const x = gateX - 26;
  const [from, to] = [centre(closed) + (open < closed ? -8 : 8), centre(open) + (open < closed ? 8 : -8)];
  const labelY = (from + to) / 2 + 4;
  return [
    line(`M${x} ${from}L${x} ${to}`, colors.warn, { isDashed: true }),
    text(x - 8, Math.abs(from - to) > STEP ? labelY - STEP / 2 : labelY, colors.ink, 'SIGURG', { anchor: 'end' }),
  ];
}

const sentence = (help: string) => `${help.charAt(0).toUpperCase()}${help.slice(1)}.`;
