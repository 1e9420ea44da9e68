/**
 * Heap snapshots and CPU profiles of workers: one at a time, only if memory and disk hold them, and for a snapshot with the worker out of
 * the rotation.
 */
import { statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { LogSource } from '../log/log.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { Diagnosis, DiagnosisTarget, ToPrimary } from '../protocol/messages.ts';
import { type Limits, readerBelow } from '../resources/cgroup.ts';
import { readHeadroom } from '../resources/usage.ts';

const MIB = 2 ** 20;
/** V8 builds the snapshot beside the heap, and its text is about as large again. */
const SNAPSHOT_TO_HEAP = 2;
const MAX_DIAGNOSIS_MS = 10 * 60_000;

/** The diagnosis cannot be made now; the message says why. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
}

export interface DiagnosticsContext {
  /** SIZING_ROOT */
  root: string;
  limits: () => Limits;
  /** DIAGNOSTICS_DIR */
  folder: string;
  /** Whether another worker serves meanwhile. */
  mayLeave: (handle: WorkerProcess) => boolean;
  log: LogSource;
}

export class Diagnostics {
  readonly #context: DiagnosticsContext;
  readonly #pending = new Map<number, PromiseWithResolvers<void>>();
  #ids = 0;
  #isBusy = false;

  constructor(context: DiagnosticsContext) {
    this.#context = context;
  }

  /** A path in DIAGNOSTICS_DIR, named by pid and time. */
  fileFor(handle: WorkerProcess, { kind }: Diagnosis): string {
    const time = new Date().toISOString().replaceAll(/[:.]/g, '-');
    return join(this.#context.folder, `bosun-${handle.pid}-${time}.${kind === 'heap-snapshot' ? 'heapsnapshot' : 'cpuprofile'}`);
  }

  /**
   * Makes the worker write a snapshot or profile to `to`.
   * @throws RefusedError if memory or disk is short, the worker does not serve, or another diagnosis is running
   */
  async take(handle: WorkerProcess, diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
    if (this.#isBusy) throw new RefusedError('another diagnosis is running; only one can run at a time');
    if (handle.state !== 'ready' && handle.state !== 'cordoned') throw new RefusedError(`worker ${handle.id} is ${handle.state}`);
    this.#isBusy = true;
    let isCordoned = false;
    try {
      if (diagnosis.kind === 'heap-snapshot') await this.#checkRoom(handle, to);
      handle.setDiagnosed(true);
      // A snapshot blocks the worker, while a profile needs its normal load. An only worker stays in: its clients wait and are not refused.
      isCordoned = diagnosis.kind === 'heap-snapshot' && handle.isServing && this.#context.mayLeave(handle);
      if (isCordoned) void handle.setCordoned(true);
      await this.#request(handle, diagnosis, to);
      this.#context.log().info({
        event: 'worker.diagnosed',
        worker: handle.id,
        kind: diagnosis.kind,
        ...('file' in to && { file: to.file }),
      });
    } finally {
      handle.setDiagnosed(false);
      // Before the next diagnosis may begin: two workers are never out of the rotation at the same time.
      if (isCordoned) await handle.setCordoned(false);
      this.#isBusy = false;
    }
  }

  /** Writes a heap snapshot of each worker to DIAGNOSTICS_DIR, one after the other; refusals are logged. */
  async snapshotAll(workers: readonly WorkerProcess[]): Promise<void> {
    const diagnosis: Diagnosis = { kind: 'heap-snapshot' };
    for (const worker of workers) {
      try {
        await this.take(worker, diagnosis, { file: this.fileFor(worker, diagnosis) });
      } catch (error) {
        this.#context.log().error({ event: 'worker.snapshot-refused', worker: worker.id, error: (error as Error).message });
      }
    }
  }

  /** To be called with each `diagnosed` message of a worker. */
  onDiagnosed(message: Extract<ToPrimary, { type: 'diagnosed' }>): void {
    const pending = this.#pending.get(message.id);
    if (message.error === undefined) pending?.resolve();
    else pending?.reject(new RefusedError(message.error));
  }

  async #request(handle: WorkerProcess, diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
    const id = ++this.#ids;
    const pending = Promise.withResolvers<void>();
    this.#pending.set(id, pending);
    const timeout = setTimeout(
      () => pending.reject(new RefusedError(`worker ${handle.id} took longer than ${MAX_DIAGNOSIS_MS} ms`)),
      MAX_DIAGNOSIS_MS,
    );
    const removeListener = handle.onExit(() =>
      pending.reject(new RefusedError(`worker ${handle.id} exited during the diagnosis: ${handle.failure}`)),
    );
    try {
      handle.send({ type: 'diagnose', id, diagnosis, to });
      await pending.promise;
    } finally {
      clearTimeout(timeout);
      removeListener();
      this.#pending.delete(id);
    }
  }

  async #checkRoom(handle: WorkerProcess, to: DiagnosisTarget): Promise<void> {
    const needed = (handle.snapshot?.memory.heapUsed ?? 0) * SNAPSHOT_TO_HEAP;
    const headroom = readHeadroom(readerBelow(this.#context.root), this.#context.limits());
    if (headroom !== undefined && headroom.bytes < needed) {
      throw new RefusedError(
        `a snapshot of worker ${handle.id} needs about ${mib(needed)} MiB of memory, but only ${mib(headroom.bytes)} MiB of ${mib(headroom.limitBytes)} MiB are free (${headroom.file})`,
      );
    }
    if (!('file' in to)) return;
    const folder = dirname(to.file);
    const { bavail, bsize } = await statfs(folder);
    if (bavail * bsize < needed) {
      throw new RefusedError(
        `a snapshot of worker ${handle.id} needs about ${mib(needed)} MiB of disk, and ${mib(bavail * bsize)} MiB are free in ${folder}`,
      );
    }
  }
}

const mib = (bytes: number) => Math.round(bytes / MIB);
