/**
 * The rounds of a comparison: who is measured when, which rounds count, and what the figures say. Pure: machine.ts reads the machine.
 *
 * How to use it. A benchmark is a function that returns comparisons, and its file ends with `if (import.meta.main) await report([it])`:
 *
 *   const overload: Benchmark = async settings => [
 *     await compare({
 *       name: 'overload', title: 'twice the sustainable load', subjects: ['off', 'on'], baseline: 'off',
 *       figures: { goodput: { unit: 'answers/s', kind: 'rate', digits: 0 }, p99: P99 },
 *       rounds: settings.rounds(5),
 *       measure: async (subject, round) => ({ goodput: …, p99: … }), // one measurement of at least 100 ms
 *     }),
 *   ];
 *
 * `compare` is in machine.ts, `report` in report.ts; servers are started before and stopped after it, and are all up at once.
 *
 * Subjects are measured A B C in one round and C B A in the next, so that a drift of the machine falls on all alike (A B B A). Each
 * measurement is watched: where the hypervisor took CPU time (steal), or processes that are not the benchmark's used it (foreign), the
 * round is discarded and repeated. Where too many are, `TooNoisy` is thrown instead of a figure. Ratios are of the same round, the
 * figure of a subject divided by that of the baseline.
 */

/** Shares of the CPU time of the whole machine, 0 to 1. */
export interface Noise {
  steal: number;
  foreign: number;
}

export interface Figure {
  unit: string;
  /** CPU time is steadier than rates on a busy machine: reports show it first. */
  kind: 'cpu' | 'rate' | 'other';
  digits: number;
}

export const CPU_PER_REQUEST = { unit: 'µs CPU/request', kind: 'cpu', digits: 1 } as const satisfies Figure;
export const REQUESTS = { unit: 'requests/s', kind: 'rate', digits: 0 } as const satisfies Figure;
export const P99 = { unit: 'ms p99', kind: 'other', digits: 1 } as const satisfies Figure;

/** How many rounds have to count: so many, or more until the median of each ratio is known to `spread` (0.1 is 10 %). */
export type Rounds = number | { least: number; most: number; spread: number };

export interface Plan<S extends string, F extends string> {
  /** The same from run to run: the history compares by it. */
  name: string;
  title: string;
  subjects: readonly S[];
  baseline: S;
  figures: Record<F, Figure>;
  rounds: Rounds;
  /** For memory and the like, which does not depend on who else has the CPUs. */
  ignoresNoise?: true;
  measure(subject: S, round: number): Promise<Record<F, number>>;
}

export interface Comparison {
  name: string;
  title: string;
  baseline: string;
  figures: Record<string, Figure>;
  /** Rounds that count. */
  rounds: number;
  discarded: number;
  /** The largest of a measurement that counts. */
  noise: Noise;
  /** Of each subject and figure, one value for each round that counts. */
  values: Record<string, Record<string, number[]>>;
}

/** What a comparison needs of the machine. */
export interface Surroundings {
  bounds: Noise;
  /** Begins to watch the machine; the function that it returns says what the noise was since then. */
  watch(): () => Noise;
  /** Waits for the machine to become quiet, for a limited time. */
  calm(): Promise<void>;
  progress(text: string): void;
}

/** At most so many rounds are discarded for each that counts, and for two more: a machine that is never quiet shows after five. */
const DISCARDED_PER_ROUND = 2;

export class TooNoisy extends Error {
  override readonly name = 'TooNoisy';
}

/**
 * @throws TooNoisy if more rounds are discarded than the bound allows
 * @throws what `measure` throws
 */
export async function measureRounds<S extends string, F extends string>(
  plan: Plan<S, F>,
  surroundings: Surroundings,
): Promise<Comparison> {
  const { name, title, baseline, figures, ignoresNoise = false } = plan;
  const values: Comparison['values'] = {};
  for (const subject of plan.subjects) values[subject] = Object.fromEntries(Object.keys(figures).map(figure => [figure, []]));
  const comparison: Comparison = { name, title, baseline, figures, rounds: 0, discarded: 0, noise: NONE, values };
  while (!isEnough(comparison, plan.rounds)) {
    surroundings.progress(
      `${name}: round ${comparison.rounds + 1}${comparison.discarded > 0 ? `, ${comparison.discarded} discarded` : ''}`,
    );
    const round = await measureRound(
      plan,
      comparison.rounds,
      ignoresNoise ? { ...surroundings, watch: () => () => NONE } : surroundings,
    );
    if (!isQuiet(round.noise, surroundings.bounds)) {
      comparison.discarded++;
      if (comparison.discarded > (comparison.rounds + 2) * DISCARDED_PER_ROUND)
        throw tooNoisy(comparison, round.noise, surroundings.bounds);
      await surroundings.calm();
      continue;
    }
    comparison.rounds++;
    comparison.noise = larger(comparison.noise, round.noise);
    for (const [subject, measured] of round.values)
      for (const [figure, value] of Object.entries<number>(measured)) values[subject]?.[figure]?.push(value);
  }
  return comparison;
}

/** Ends with the first measurement that is too noisy: the rest would be discarded with it. */
async function measureRound<S extends string, F extends string>(
  { subjects, measure }: Plan<S, F>,
  round: number,
  { watch, bounds }: Surroundings,
): Promise<{ values: Map<S, Record<F, number>>; noise: Noise }> {
  const values = new Map<S, Record<F, number>>();
  let noise = NONE;
  for (const subject of round % 2 === 0 ? subjects : subjects.toReversed()) {
    const watched = watch();
    values.set(subject, await measure(subject, round));
    noise = larger(noise, watched());
    if (!isQuiet(noise, bounds)) break;
  }
  return { values, noise };
}

const NONE: Noise = { steal: 0, foreign: 0 };

const larger = (one: Noise, other: Noise): Noise => ({
  steal: Math.max(one.steal, other.steal),
  foreign: Math.max(one.foreign, other.foreign),
});

export const isQuiet = ({ steal, foreign }: Noise, bounds: Noise): boolean => steal <= bounds.steal && foreign <= bounds.foreign;

function tooNoisy({ name, rounds, discarded }: Comparison, last: Noise, bounds: Noise): TooNoisy {
  return new TooNoisy(
    `${name}: ${discarded} of ${rounds + discarded} rounds were too noisy to count: the last one had ${percent(last.steal)} steal and ` +
      `${percent(last.foreign)} CPU time of other processes (bounds ${percent(bounds.steal)} and ${percent(bounds.foreign)})`,
  );
}

const percent = (share: number) => `${(share * 100).toFixed(1)} %`;

/** Without `most`, `least` is enough. */
function isEnough(comparison: Comparison, wanted: Rounds): boolean {
  if (typeof wanted === 'number') return comparison.rounds >= wanted;
  if (comparison.rounds < wanted.least) return false;
  if (comparison.rounds >= wanted.most) return true;
  const [first = ''] = Object.keys(comparison.figures);
  const subjects = Object.keys(comparison.values).filter(subject => subject !== comparison.baseline);
  return subjects.every(subject => medianSpread(ratiosOf(comparison, subject, first)) <= wanted.spread);
}

/** The figure of a subject divided by that of the baseline in the same round. */
export function ratiosOf({ values, baseline }: Comparison, subject: string, figure: string): number[] {
  const base = values[baseline]?.[figure] ?? [];
  return (values[subject]?.[figure] ?? []).map((value, round) => value / (base[round] ?? Number.NaN));
}

export interface Summary {
  min: number;
  median: number;
  max: number;
}

/** NaN without values. */
export function summaryOf(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const at = (index: number) => sorted[index] ?? Number.NaN;
  const half = sorted.length / 2;
  const median = sorted.length % 2 === 0 ? (at(half - 1) + at(half)) / 2 : at(Math.floor(half));
  return { min: at(0), median, max: at(sorted.length - 1) };
}

/** `min/median/max`; a single value alone. */
export function spread(values: readonly number[], digits: number): string {
  if (values.length === 1) return String(values[0]?.toFixed(digits));
  const { min, median, max } = summaryOf(values);
  return [min, median, max].map(value => value.toFixed(digits)).join('/');
}

/**
 * How well a median is known: the width of its confidence interval of 95 %, divided by it. From the order of the values alone (the
 * binomial distribution), so that it holds for any distribution of them; below six values the interval is all of them.
 */
export function medianSpread(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const count = sorted.length;
  let below = 0; // the probability that at most `cut` of the values are below the true median
  let term = 0.5 ** count;
  let cut = 0;
  while (below + term <= 0.025) {
    below += term;
    term *= (count - cut) / (cut + 1);
    cut++;
  }
  const from = sorted[Math.max(0, cut - 1)] ?? Number.NaN;
  const to = sorted[Math.min(count - 1, count - cut)] ?? Number.NaN;
  return (to - from) / summaryOf(sorted).median;
}
