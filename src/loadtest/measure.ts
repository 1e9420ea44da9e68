/**
 * How a load is measured: a warm-up, then the load with the stack observed, until its time is over or somebody stops it.
 */
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { exact, fullSpeed, type Load, type Sink } from './generator.ts';
import { Observer } from './observer.ts';
import { Recorder, rounded } from './recorder.ts';
import type { Run } from './result.ts';
import type { Settings } from './settings.ts';
import type { Stack } from './stack.ts';

export interface Context {
  settings: Settings;
  stack: Stack;
  /** `policies`: a stack each, by name; `stack` is the first. */
  byPolicy: ReadonlyMap<string, Stack>;
  /** Aborted by Ctrl-C. */
  stopped: AbortSignal;
  /** For the progress line. */
  watch(label: string, recorder: Recorder, seconds: number): void;
}

/** An open load, or a sequence of them, that ends when the signal says so. */
export type Body = (recorder: Recorder, over: AbortSignal) => Promise<void>;

/** One run: warm-up, then `body` while the stack is observed. */
export async function measure(context: Context, label: string, body: Body, notes: string[] = []): Promise<Run[]> {
  const { settings, stack, stopped } = context;
  await warmUp(context);
  const recorder = new Recorder(settings.durationSeconds > 60 ? 1000 : 250);
  const observer = await Observer.start(stack, recorder);
  const over = AbortSignal.any([stopped, AbortSignal.timeout(settings.durationSeconds * 1000)]);
  context.watch(label, recorder, settings.durationSeconds);
  const before = performance.eventLoopUtilization();
  await body(recorder, over);
  recorder.pause();
  const generatorUtilization = rounded(performance.eventLoopUtilization(before).utilization);
  return [{ label, ...recorder.measured(), ...(await observer.stop()), generatorUtilization, notes }];
}

const WARM_UP_SHARE = 0.2;
const LONGEST_WARM_UP_MS = 2_000;

/** Lets the compiler settle; nobody counts it. */
export async function warmUp(context: Context): Promise<void> {
  const ignored = new Recorder();
  const ms = Math.min(LONGEST_WARM_UP_MS, context.settings.durationSeconds * 1000 * WARM_UP_SHARE);
  context.watch('warm-up', ignored, ms / 1000);
  const load = loadOf(context, ignored);
  await pause(ms, context.stopped);
  await load.stop();
  if (ignored.requests === 0 && !context.stopped.aborted)
    throw new Error(`no request to ${urlOf(context)} was answered as it should be: ${JSON.stringify(ignored.failures)}`);
}

/** A load for as long as it goes, and something that happens meanwhile. */
export function holding(
  start: (recorder: Recorder) => Load,
  meanwhile: Body = async (_recorder, over) => pause(Number.POSITIVE_INFINITY, over),
): Body {
  return async (recorder, over) => {
    const load = start(recorder);
    try {
      await meanwhile(recorder, over);
      await pause(Number.POSITIVE_INFINITY, over);
    } finally {
      await load.stop();
    }
  };
}

export function keepAlive(context: Context, recorder: Recorder): Load {
  const { connections, rate } = context.settings;
  return rate === 0 ? fullSpeed(urlOf(context), connections, recorder) : loadOf(context, recorder);
}

export type Wish = Partial<{ next: () => string; fresh: boolean; connections: number; rate: number }>;

export function loadOf(context: Context, sink: Sink, wish: Wish = {}): Load {
  const { connections, rate } = context.settings;
  const { next, ...rest } = wish;
  const { origin } = context.stack;
  const url = urlOf(context);
  return exact({ next: next ? () => `${origin}${next()}` : () => url, fresh: false, connections, rate, ...rest }, sink);
}

/** The demo's cheapest route without a session: a session per request would fill the store. */
function urlOf({ settings, stack }: Context): string {
  return settings.url === undefined ? `${stack.origin}/cpu?ms=0` : settings.url.href;
}

/** Ends early, without an error, when the signal aborts. */
export async function pause(ms: number, over: AbortSignal): Promise<void> {
  if (over.aborted) return;
  if (ms === Number.POSITIVE_INFINITY) await once(over, 'abort');
  else await sleep(ms, undefined, { signal: over }).catch(() => 'ended early');
}
