/**
 * How a load is measured: a warm-up, then the load, while an observer watches the workers through the admin port, until the time is over
 * or Ctrl-C.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ShownEvent, Status } from '../protocol/api.ts';
import { exact, fullSpeed, type Load, type LoadOptions, pause, type Sink } from './generator.ts';
import { type Mark, Recorder, type Run, rounded, type Usage, type WorkerShare } from './result.ts';
import type { Settings } from './settings.ts';
import type { Stack } from './stack.ts';

export interface Context {
  settings: Settings;
  stack: Stack;
  /** The stack of each policy (`policies`); `stack` is the first. */
  byPolicy: ReadonlyMap<string, Stack>;
  /** Aborted by Ctrl-C. */
  stopped: AbortSignal;
  /** Shows progress. */
  watch(label: string, recorder: Recorder, seconds: number): void;
}

/** A load, or a sequence of them, that ends when the signal aborts. */
export type Body = (recorder: Recorder, signal: AbortSignal) => Promise<void>;

/** One run: warm-up, then `body` while the stack is observed. */
export async function measure(context: Context, label: string, body: Body, notes: string[] = []): Promise<Run[]> {
  const { settings, stack, stopped } = context;
  await warmUp(context);
  const recorder = new Recorder(settings.durationSeconds > 60 ? 1000 : 250);
  const observer = await Observer.start(stack, recorder);
  const signal = AbortSignal.any([stopped, AbortSignal.timeout(settings.durationSeconds * 1000)]);
  context.watch(label, recorder, settings.durationSeconds);
  const before = performance.eventLoopUtilization();
  await body(recorder, signal);
  recorder.pause();
  const generatorUtilization = rounded(performance.eventLoopUtilization(before).utilization);
  return [{ label, ...recorder.measured(), ...(await observer.stop()), generatorUtilization, notes }];
}

const WARM_UP_SHARE = 0.2;
const MAX_WARM_UP_MS = 2_000;

/** Lets the compiler settle; not counted. */
export async function warmUp(context: Context): Promise<void> {
  const ignored = new Recorder();
  const ms = Math.min(MAX_WARM_UP_MS, context.settings.durationSeconds * 1000 * WARM_UP_SHARE);
  context.watch('warm-up', ignored, ms / 1000);
  const load = loadOf(context, ignored);
  await pause(ms, context.stopped);
  await load.stop();
  if (ignored.requests === 0 && !context.stopped.aborted)
    throw new Error(`no request to ${urlOf(context)} was answered with 2xx: ${JSON.stringify(ignored.failures)}`);
}

/** A load until the signal aborts, and something that happens during it. */
export function holding(
  start: (recorder: Recorder) => Load,
  meanwhile: Body = async (_recorder, signal) => pause(Number.POSITIVE_INFINITY, signal),
): Body {
  return async (recorder, signal) => {
    const load = start(recorder);
    try {
      await meanwhile(recorder, signal);
      await pause(Number.POSITIVE_INFINITY, signal);
    } finally {
      await load.stop();
    }
  };
}

export function keepAlive(context: Context, recorder: Recorder): Load {
  const { connections, rate } = context.settings;
  return rate === 0 ? fullSpeed(urlOf(context), connections, recorder) : loadOf(context, recorder);
}

/** `next` gives the path of each request; otherwise all go to one URL. */
export function loadOf(context: Context, sink: Sink, options: Partial<LoadOptions> = {}): Load {
  const { connections, rate } = context.settings;
  const { next, ...rest } = options;
  const { origin } = context.stack;
  const url = urlOf(context);
  return exact({ next: next ? () => `${origin}${next()}` : () => url, fresh: false, connections, rate, ...rest }, sink);
}

/** The demo's cheapest route without a session; a session per request would fill the store. */
function urlOf({ settings, stack }: Context): string {
  return settings.url === undefined ? `${stack.origin}/cpu?ms=0` : settings.url.href;
}

/** Short enough to see a worker that lives briefly; each poll costs the primary about a millisecond. */
const POLL_INTERVAL_MS = 200;
/** Workers report every second; their last requests are known only then. */
const LAST_REPORT_MS = 1_200;
/** The unit of /proc/PID/stat. */
const TICKS_PER_SECOND = 100;

type Observed = Pick<Run, 'workers' | 'restarts' | 'drains' | 'usage' | 'throttledSeconds'>;

/** The lifecycle events that the report marks; a scenario marks its own rolling restarts. */
const MARKS = {
  starting: undefined,
  ready: 'ready',
  cordoned: undefined,
  draining: 'draining',
  exit: 'exited',
  resize: undefined,
  restart: undefined,
  restarted: undefined,
  'restart-failed': undefined,
  'restart-refused': undefined,
  policy: undefined,
  rebalanced: undefined,
  leader: undefined,
  keys: undefined,
  check: undefined,
  'check-failing': undefined,
} satisfies Record<ShownEvent['kind'], Mark['kind'] | undefined>;

/** Watches the stack while a load runs: the state of its workers, how many requests each answers, and how much CPU it uses. */
export class Observer {
  readonly #stack: Stack;
  readonly #recorder: Recorder;
  readonly #workers = new Map<number, WorkerShare & { first: number }>();
  readonly #usage: Usage[] = [];
  readonly #first: Status | undefined;
  readonly #throttledAtFirst: number | null;
  #last: Status | undefined;
  #cpu: { atMs: number; seconds: Map<number, number> } | undefined;
  readonly #stopping = new AbortController();
  #watching: Promise<unknown> | undefined;

  private constructor(stack: Stack, recorder: Recorder, first: Status | undefined, throttled: number | null) {
    this.#stack = stack;
    this.#recorder = recorder;
    this.#first = first;
    this.#throttledAtFirst = throttled;
  }

  static async start(stack: Stack, recorder: Recorder): Promise<Observer> {
    const observer = new Observer(stack, recorder, await stack.status(), await stack.throttledSeconds());
    if (observer.#first !== undefined) {
      observer.#count(observer.#first);
      observer.#watching = Promise.all([observer.#poll(), observer.#mark()]);
    }
    return observer;
  }

  async stop(): Promise<Observed> {
    this.#stopping.abort();
    await this.#watching;
    if (this.#first !== undefined) {
      await sleep(LAST_REPORT_MS);
      const status = await this.#stack.status();
      if (status !== undefined) this.#count(status);
    }
    const [before, after] = [this.#first, this.#last];
    const throttled = await this.#stack.throttledSeconds();
    const { count = 0, finishedRequests = 0, cutRequests = 0 } = before?.drains ?? {};
    return {
      workers: [...this.#workers.values()].map(({ id, pid, generation, requests, first }) => ({
        id,
        pid,
        generation,
        requests: requests - first,
      })),
      restarts: difference(after?.restarts.byReason ?? {}, before?.restarts.byReason ?? {}),
      drains: {
        count: (after?.drains.count ?? 0) - count,
        finishedRequests: (after?.drains.finishedRequests ?? 0) - finishedRequests,
        cutRequests: (after?.drains.cutRequests ?? 0) - cutRequests,
      },
      usage: this.#usage,
      throttledSeconds:
        throttled === null || this.#throttledAtFirst === null ? null : rounded(throttled - this.#throttledAtFirst),
    };
  }

  async #poll(): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const status = await this.#stack.status();
      if (status !== undefined && !signal.aborted && this.#recorder.running) {
        this.#count(status);
        this.#measure(status);
      }
      await pause(POLL_INTERVAL_MS, signal);
    }
  }

  #mark(): Promise<void> {
    return this.#stack.streamEvents(this.#stopping.signal, ({ kind, text }) => {
      const mark = MARKS[kind];
      if (mark !== undefined && this.#recorder.running) this.#recorder.mark(mark, text);
    });
  }

  #count(status: Status): void {
    const isFirst = this.#last === undefined;
    this.#last = status;
    for (const { id, pid, generation, requests } of status.workers) {
      const known = this.#workers.get(pid);
      const first = known?.first ?? (isFirst ? requests : 0);
      this.#workers.set(pid, { id, pid, generation, requests: Math.max(requests, known?.requests ?? 0), first });
    }
  }

  #measure(status: Status): void {
    const ready = status.workers.filter(({ state }) => state === 'ready');
    const loop = ready.reduce((sum, { eventLoopUtilization }) => sum + eventLoopUtilization, 0) / Math.max(1, ready.length);
    const now = { atMs: performance.now(), seconds: cpuSeconds([status.pid, ...status.workers.map(({ pid }) => pid)]) };
    const before = this.#stack.local ? this.#cpu : undefined;
    this.#cpu = now;
    let cores: number | null = null;
    if (before !== undefined) {
      let used = 0;
      for (const [pid, seconds] of now.seconds) used += Math.max(0, seconds - (before.seconds.get(pid) ?? 0));
      cores = rounded(used / ((now.atMs - before.atMs) / 1000));
    }
    this.#usage.push({ atSeconds: rounded(this.#recorder.seconds), cores, loop: rounded(loop) });
  }
}

/** CPU time so far by pid; empty where there is no /proc. */
function cpuSeconds(pids: readonly number[]): Map<number, number> {
  const found = new Map<number, number>();
  for (const pid of pids) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      found.set(pid, (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND);
    } catch {
      // not on this machine, or exited
    }
  }
  return found;
}

function difference(after: Record<string, number>, before: Record<string, number>): Record<string, number> {
  const entries = Object.entries(after).map(([reason, count]): [string, number] => [reason, count - (before[reason] ?? 0)]);
  return Object.fromEntries(entries.filter(([, count]) => count > 0));
}
