/**
 * Has workers replaced that hang or have done their time.
 */
import type { LogSource } from '../../log.ts';
import type { ExitReason } from '../../messages.ts';
import type { Recycling } from './recycling.ts';
import type { Replacer } from './replacer.ts';
import type { Watchdog } from './watchdog.ts';
import type { WorkerHandle } from './worker-handle.ts';

interface Parts {
  log: LogSource;
  watchdog: Watchdog;
  recycling: Recycling;
  replacer: Replacer;
}

export class Turnover {
  readonly #parts: Parts;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Asks for the replacement of those in `pool` that are due and not being replaced yet. */
  look(pool: readonly WorkerHandle[], now: number): void {
    const { watchdog, recycling, replacer } = this.#parts;
    for (const handle of pool) {
      if (handle.state === 'starting' || replacer.isBusyWith(handle)) continue;
      // A hung one does not wait for its turn in a roll.
      if (watchdog.isHung(handle)) this.#replace(handle, 'hung');
      else if (!replacer.isConcernedWith(handle)) this.#replace(handle, recycling.reasonFor(handle, now));
    }
  }

  #replace(handle: WorkerHandle, reason: ExitReason | undefined): void {
    if (reason === undefined) return;
    const { log, replacer } = this.#parts;
    const { id: worker, pid: workerPid } = handle;
    log()[reason === 'hung' ? 'error' : 'info']({ event: 'worker.replace', worker, workerPid, reason });
    replacer.request([handle], reason).catch((error: Error) => {
      // Asked for again by the next look, after the back-off.
      log().error({ event: 'worker.replace-failed', worker, reason, error: error.message });
    });
  }
}
