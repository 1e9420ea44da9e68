/**
 * Knows which workers hang: a worker reports at least once a second, and its event loop is blocked when it does not. Ends those that
 * never come up.
 */
import type { Config } from '../config/config.ts';
import type { Emit } from '../protocol/events.ts';
import type { WorkerProcess } from './worker-process.ts';

/** Silence is measured in beats: ten in WORKER_HEARTBEAT_TIMEOUT_MS, and an idle primary wakes once a second at most. */
const BEATS_PER_TIMEOUT = 10;
const SHORTEST_BEAT_MS = 100;
const LONGEST_BEAT_MS = 1000;
/** For the inspector to open, and again for its answers: 50 ms on an idle machine. */
const STACK_TIMEOUT_MS = 3000;

export class Watchdog {
  readonly #timeoutMs: number;
  readonly #beatMs: number;
  readonly #emit: Emit;
  readonly #handles: Iterable<WorkerProcess>;
  readonly #beat: NodeJS.Timeout;

  /** Counts the silence of `handles`, and calls `onBeat` after it. */
  constructor({ workerHeartbeatTimeoutMs }: Config, emit: Emit, handles: Iterable<WorkerProcess>, onBeat: () => void) {
    this.#timeoutMs = workerHeartbeatTimeoutMs;
    this.#emit = emit;
    this.#handles = handles;
    const beatMs = workerHeartbeatTimeoutMs === 0 ? LONGEST_BEAT_MS : workerHeartbeatTimeoutMs / BEATS_PER_TIMEOUT;
    this.#beatMs = Math.min(LONGEST_BEAT_MS, Math.max(SHORTEST_BEAT_MS, beatMs));
    this.#beat = setInterval(() => {
      // Only while the primary itself is awake: after a suspended machine nobody is hung.
      for (const handle of handles) handle.silentMs += this.#beatMs;
      onBeat();
    }, this.#beatMs);
  }

  /** Silent, and not paused by a debugger. */
  isHung(handle: WorkerProcess): boolean {
    return this.isSilent(handle) && !handle.isInspected;
  }

  /** Whether it has not reported for WORKER_HEARTBEAT_TIMEOUT_MS. The first beat after a message does not count yet. */
  isSilent({ isDiagnosed, silentMs }: WorkerProcess): boolean {
    return this.#timeoutMs > 0 && !isDiagnosed && silentMs - this.#beatMs >= this.#timeoutMs;
  }

  /**
   * Ends a hung worker and logs its stack. If it answers again, it drains within `drainTimeoutMs`: it cannot stay, because
   * its inspector is open.
   */
  async end(handle: WorkerProcess, drainTimeoutMs: number): Promise<void> {
    const { id, pid } = handle;
    const address = await handle.openInspector('hung', STACK_TIMEOUT_MS);
    // Needs no file to load, so it works while the kit is being reinstalled.
    const loaded = await import('./hung-stack.ts').catch(() => undefined);
    const stack = address === undefined ? undefined : await loaded?.stackAt(address, pid, STACK_TIMEOUT_MS);
    this.#emit({ event: 'worker.hung', worker: id, workerPid: pid, stack: stack ?? 'unavailable' });
    if (this.isHung(handle)) handle.kill('hung');
    else if (handle.state !== 'exited') handle.beginDrain('hung', drainTimeoutMs);
  }

  /** `now` by the monotonic clock. */
  endSlowStarters(now: number, startTimeoutMs: number): void {
    for (const handle of this.#handles) {
      if (handle.state !== 'starting' || now - handle.startedAt < startTimeoutMs) continue;
      handle.failure = `not ready within ${startTimeoutMs} ms (WORKER_START_TIMEOUT_MS)`;
      handle.kill('start-timeout');
    }
  }

  stop(): void {
    clearInterval(this.#beat);
  }
}
