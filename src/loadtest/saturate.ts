/**
 * The scenario `saturate`: raises the rate until p99 exceeds its target, and reports between which rates that happens. `findKnee` is the
 * pure search.
 */
import { pause, type Sink } from './generator.ts';
import { type Body, type Context, loadOf, measure } from './measure.ts';
import { failuresOf, Recorder, type Run } from './result.ts';

const FIRST_RATE = 250;
const STEPS = 12;
const MIN_STEP_MS = 500;
const CONNECTIONS = 1000;
/** The utilization of this process' event loop above which the figures are the generator's own. */
const BUSY_GENERATOR = 0.9;
/** Below this share of the rate, requests pile up. */
const MIN_ANSWERED_SHARE = 0.9;

export async function saturate(context: Context): Promise<Run[]> {
  const { durationSeconds, rate: firstRate, p99TargetMs } = context.settings;
  const notes: string[] = [];
  const stepMs = Math.max(MIN_STEP_MS, (durationSeconds * 1000) / STEPS);
  const body: Body = async (recorder, signal) => {
    const attempt = async (rate: number): Promise<Verdict> => {
      if (signal.aborted) return undefined;
      recorder.mark('load', `${rate} per second`);
      const step = new Recorder();
      const before = performance.eventLoopUtilization();
      const load = loadOf(context, tee(recorder, step), { rate, connections: CONNECTIONS });
      await pause(stepMs, signal);
      const { utilization } = performance.eventLoopUtilization(before);
      await load.stop();
      if (signal.aborted) return undefined;
      const why = whyNotHeld(step.measured(), rate, p99TargetMs);
      if (why === undefined) return { holds: true };
      return {
        holds: false,
        why: utilization > BUSY_GENERATOR ? `${why}, with a busy load generator, which may be the limit` : why,
      };
    };
    notes.push(describeKnee(await findKnee(firstRate || FIRST_RATE, attempt), p99TargetMs));
  };
  return measure(context, 'saturate', body, notes);
}

function whyNotHeld(measured: ReturnType<Recorder['measured']>, rate: number, p99TargetMs: number): string | undefined {
  const { latencyMs, requests, seconds } = measured;
  const failed = failuresOf(measured);
  if (failed > 0) return `${failed} requests failed`;
  if (requests / seconds < rate * MIN_ANSWERED_SHARE) return `only ${Math.round(requests / seconds)} per second were answered`;
  return latencyMs.p99 > p99TargetMs ? `p99 was ${latencyMs.p99} ms` : undefined;
}

function describeKnee({ held, broken }: Knee, p99TargetMs: number): string {
  if (broken !== undefined) return `the knee: ${held} per second held, at ${broken.rate} ${broken.why}`;
  return `the knee was not reached: ${held} per second held p99 below ${p99TargetMs} ms; give more DURATION or a higher RATE`;
}

function tee(...sinks: Sink[]): Sink {
  return {
    answered: ms => sinks.forEach(sink => void sink.answered(ms)),
    failed: kind => sinks.forEach(sink => void sink.failed(kind)),
  };
}

/** Undefined if the time was over first. */
export type Verdict = { holds: true } | { holds: false; why: string } | undefined;

export interface Knee {
  /** Requests per second; 0 where none was held. */
  held: number;
  /** The lowest rate that was not held. */
  broken?: { rate: number; why: string };
}

const STEP = 1.5;
/** Close enough: one more step would be within the noise between runs. */
const PRECISION = 1.05;

/** Raises (or lowers) the rate by half from `first` until the knee is between two rates, then bisects. `attempt` decides what holds. */
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

/** One failure may be noise: other work on the same machine. */
async function attemptTwice(rate: number, attempt: (rate: number) => Promise<Verdict>): Promise<Verdict> {
  const verdict = await attempt(rate);
  return verdict?.holds === false ? attempt(rate) : verdict;
}

function nextRate({ held, broken }: Knee): number {
  if (broken === undefined) return held * STEP;
  return held === 0 ? broken.rate / STEP : Math.sqrt(held * broken.rate);
}
