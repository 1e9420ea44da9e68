/**
 * The scenario `saturate`: raises the rate until p99 breaks its target, and says between which rates that is.
 */
import type { Sink } from './generator.ts';
import { findKnee, type Knee, type Verdict } from './knee.ts';
import { type Body, type Context, loadOf, measure, pause } from './measure.ts';
import { Recorder } from './recorder.ts';
import { failuresOf, type Run } from './result.ts';

const FIRST_RATE = 250;
const STEPS = 12;
const SHORTEST_STEP_MS = 500;
const CONNECTIONS = 1000;
/** Of this process' event loop: above it, the figures are the generator's own. */
const BUSY_GENERATOR = 0.9;
/** Answers that come that much slower than requests are asked pile up. */
const LEAST_SHARE_ANSWERED = 0.9;

export async function saturate(context: Context): Promise<Run[]> {
  const { durationSeconds, rate, p99TargetMs } = context.settings;
  const notes: string[] = [];
  const stepMs = Math.max(SHORTEST_STEP_MS, (durationSeconds * 1000) / STEPS);
  const body: Body = async (recorder, over) => {
    const attempt = async (asked: number): Promise<Verdict> => {
      if (over.aborted) return undefined;
      recorder.event('load', `${asked} per second`);
      const step = new Recorder();
      const before = performance.eventLoopUtilization();
      const load = loadOf(context, tee(recorder, step), { rate: asked, connections: CONNECTIONS });
      await pause(stepMs, over);
      const { utilization } = performance.eventLoopUtilization(before);
      await load.stop();
      if (over.aborted) return undefined;
      const why = whyNotHeld(step.measured(), asked, p99TargetMs);
      if (why === undefined) return { holds: true };
      return {
        holds: false,
        why: utilization > BUSY_GENERATOR ? `${why}, with the load generator busy: its limit, perhaps` : why,
      };
    };
    notes.push(inWords(await findKnee(rate || FIRST_RATE, attempt), p99TargetMs));
  };
  return measure(context, 'saturate', body, notes);
}

function whyNotHeld(measured: ReturnType<Recorder['measured']>, asked: number, p99TargetMs: number): string | undefined {
  const { latencyMs, requests, seconds } = measured;
  const failed = failuresOf(measured);
  if (failed > 0) return `${failed} requests failed`;
  if (requests / seconds < asked * LEAST_SHARE_ANSWERED) return `only ${Math.round(requests / seconds)} per second were answered`;
  return latencyMs.p99 > p99TargetMs ? `p99 was ${latencyMs.p99} ms` : undefined;
}

function inWords({ held, broken }: Knee, p99TargetMs: number): string {
  if (broken !== undefined) return `the knee: ${held} per second held, at ${broken.rate} ${broken.why}`;
  return `the knee was not reached: ${held} per second held p99 below ${p99TargetMs} ms; give more DURATION or a higher RATE`;
}

function tee(...sinks: Sink[]): Sink {
  return {
    answered: ms => sinks.forEach(sink => void sink.answered(ms)),
    failed: kind => sinks.forEach(sink => void sink.failed(kind)),
  };
}
