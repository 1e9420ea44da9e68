/**
 * The search for the highest rate that a server holds. Pure: what it means to hold a rate is its caller's to say.
 */

/** Undefined where the time was over before it could be told. */
export type Verdict = { holds: true } | { holds: false; why: string } | undefined;

export interface Knee {
  /** Requests per second; 0 where none was held. */
  held: number;
  /** The lowest rate that was not held. */
  broken?: { rate: number; why: string };
}

const STEP = 1.5;
/** Near enough: one more step would tell less than the next run's chance. */
const PRECISION = 1.05;

/** Goes up by half from `first`, or down, until the knee is between two rates, and then halves what is between them. */
export async function findKnee(first: number, attempt: (rate: number) => Promise<Verdict>): Promise<Knee> {
  const knee: Knee = { held: 0 };
  for (let rate = first; rate >= 1; rate = Math.round(nextRate(knee))) {
    const verdict = await attemptTwice(rate, attempt);
    if (verdict === undefined) return knee;
    if (verdict.holds) knee.held = rate;
    else knee.broken = { rate, why: verdict.why };
    if (knee.broken !== undefined && knee.broken.rate <= Math.max(knee.held + 1, knee.held * PRECISION)) return knee;
  }
  return knee;
}

/** One failure may be chance: somebody else's work on the same machine. */
async function attemptTwice(rate: number, attempt: (rate: number) => Promise<Verdict>): Promise<Verdict> {
  const verdict = await attempt(rate);
  return verdict?.holds === false ? attempt(rate) : verdict;
}

function nextRate({ held, broken }: Knee): number {
  if (broken === undefined) return held * STEP;
  return held === 0 ? broken.rate / STEP : Math.sqrt(held * broken.rate);
}
