/**
 * Has workers replaced that hang or have done their time.
 */
import type { Emit } from '../protocol/events.ts';
import type { ExitReason } from '../protocol/exit.ts';
import type { PoolMemory } from './pool-memory.ts';
import type { Recycling } from './recycling.ts';
import { ReplacementRefusedError, type Replacer } from './replacer.ts';
import type { Watchdog } from './watchdog.ts';
import type { WorkerProcess } from './worker-process.ts';

interface Parts {
  emit: Emit;
  watchdog: Watchdog;
  recycling: Recycling<WorkerProcess>;
  replacer: Replacer<WorkerProcess>;
  memory: PoolMemory;
}

/** A worker that cannot be replaced is checked again after this time. */
const REFUSED_FOR_MS = 60_000;

export class Turnover {
  readonly #parts: Parts;
  readonly #refusedUntil = new WeakMap<WorkerProcess, number>();
  #saidPointless: string | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Asks for the replacement of those in `pool` that are due and not being replaced yet; `handles` are all workers that have not exited. */
  look(handles: readonly WorkerProcess[], pool: readonly WorkerProcess[], now: number): void {
    const { watchdog, recycling, replacer, memory } = this.#parts;
    memory.look(handles, now);
    for (const handle of pool) {
      // A hung one does not wait for its turn in a roll.
      if (handle.state !== 'starting' && !replacer.isBusyWith(handle) && watchdog.isHung(handle)) this.#replace(handle, 'hung');
    }
    const isChanging = handles.some(({ state }) => state === 'starting' || state === 'draining');
    const circumstances = { headroom: isChanging ? undefined : memory.headroom, now };
    const isOut = (handle: WorkerProcess) =>
      handle.state === 'starting' || replacer.isConcernedWith(handle) || now < (this.#refusedUntil.get(handle) ?? 0);
    for (const { worker, reason } of recycling.due(pool, isOut, circumstances)) this.#replace(worker, reason);
    this.#sayPointless(recycling.pointless);
  }

  #sayPointless(why: string | undefined): void {
    if (why !== undefined && why !== this.#saidPointless) this.#parts.emit({ event: 'recycling.pointless', why });
    this.#saidPointless = why;
  }

  #replace(handle: WorkerProcess, reason: ExitReason): void {
    const { emit, replacer } = this.#parts;
    const { id: worker, pid: workerPid } = handle;
    emit({ event: 'worker.replace', worker, workerPid, reason });
    replacer.request([handle], reason).catch((error: Error) => {
      // Asked for again by the next look, after the back-off.
      if (error instanceof ReplacementRefusedError) this.#refusedUntil.set(handle, performance.now() + REFUSED_FOR_MS);
      emit({ event: 'worker.replace-failed', worker, reason, error: error.message });
    });
  }
}
