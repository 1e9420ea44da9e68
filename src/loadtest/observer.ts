/**
 * Watches the stack through its admin port while a load runs: what becomes of its workers, who answers how much, what CPU it costs.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Status } from '../cli/render.ts';
import { type Recorder, rounded } from './recorder.ts';
import type { Run, Usage, WorkerShare } from './result.ts';
import type { Stack } from './stack.ts';

/** Often enough that a worker's short life is seen; each look costs the primary about a millisecond. */
const LOOK_EVERY_MS = 200;
/** Workers report every second: what they answered at the end is known only then. */
const LAST_REPORT_MS = 1_200;
/** What /proc counts in. */
const TICKS_PER_SECOND = 100;

type Observed = Pick<Run, 'workers' | 'restarts' | 'drains' | 'usage' | 'throttledSeconds'>;

export class Observer {
  readonly #stack: Stack;
  readonly #recorder: Recorder;
  readonly #workers = new Map<number, WorkerShare & { first: number; state: string }>();
  readonly #usage: Usage[] = [];
  readonly #first: Status | undefined;
  readonly #throttledAtFirst: number | null;
  #last: Status | undefined;
  #cpu: { atMs: number; seconds: Map<number, number> } | undefined;
  #goesOn = true;
  #watching: Promise<void> | undefined;

  private constructor(stack: Stack, recorder: Recorder, first: Status | undefined, throttled: number | null) {
    this.#stack = stack;
    this.#recorder = recorder;
    this.#first = first;
    this.#throttledAtFirst = throttled;
  }

  static async start(stack: Stack, recorder: Recorder): Promise<Observer> {
    const observer = new Observer(stack, recorder, await stack.status(), await stack.throttledSeconds());
    if (observer.#first !== undefined) {
      observer.#see(observer.#first, true);
      observer.#watching = observer.#watch();
    }
    return observer;
  }

  async stop(): Promise<Observed> {
    this.#goesOn = false;
    await this.#watching;
    if (this.#first !== undefined) {
      await sleep(LAST_REPORT_MS);
      const status = await this.#stack.status();
      if (status !== undefined) this.#see(status, true);
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

  async #watch(): Promise<void> {
    while (this.#goesOn) {
      const status = await this.#stack.status();
      if (status !== undefined && this.#goesOn && this.#recorder.running) {
        this.#see(status, false);
        this.#measure(status);
      }
      await sleep(LOOK_EVERY_MS);
    }
  }

  /** Quietly at the start and the end: no event, only the counts. */
  #see(status: Status, quietly: boolean): void {
    const atFirst = this.#last === undefined;
    this.#last = status;
    for (const { id, pid, generation, requests, state } of status.workers) {
      const known = this.#workers.get(pid);
      const first = known?.first ?? (atFirst ? requests : 0);
      if (known?.state !== state && !quietly) this.#tell(id, state);
      this.#workers.set(pid, { id, pid, generation, requests: Math.max(requests, known?.requests ?? 0), first, state });
    }
    const present = new Set(status.workers.map(({ pid }) => pid));
    for (const [pid, worker] of this.#workers) {
      if (present.has(pid) || worker.state === 'exited') continue;
      worker.state = 'exited';
      if (!quietly) this.#tell(worker.id, 'exited');
    }
  }

  #tell(id: number, state: string): void {
    if (state === 'ready' || state === 'draining' || state === 'exited') this.#recorder.event(state, `worker ${id} ${state}`);
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
      /* not on this machine, or gone */
    }
  }
  return found;
}

function difference(after: Record<string, number>, before: Record<string, number>): Record<string, number> {
  const entries = Object.entries(after).map(([reason, count]): [string, number] => [reason, count - (before[reason] ?? 0)]);
  return Object.fromEntries(entries.filter(([, count]) => count > 0));
}
