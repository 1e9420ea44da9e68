/**
 * Heap snapshots and CPU profiles of workers: one at a time, only where there is room, and with the worker out of the rotation.
 */
import { statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { LogSource } from '../log/log.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { Diagnosis, DiagnosisTarget, ToPrimary } from '../protocol/messages.ts';
import { type Limits, readerBelow } from '../resources/cgroup.ts';
import { readHeadroom } from '../resources/usage.ts';

const MIB = 2 ** 20;
/** V8 builds the snapshot beside the heap, and its text is as large again. */
const SNAPSHOT_TO_HEAP = 2;
const LONGEST_MS = 10 * 60_000;

/** Not now, and why. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
}

interface Parts {
  /** SIZING_ROOT */
  root: string;
  limits: () => Limits;
  /** DIAGNOSTICS_DIR */
  folder: string;
  mayLeave: (handle: WorkerProcess) => boolean;
  log: LogSource;
}

export class Diagnostics {
  readonly #parts: Parts;
  readonly #pending = new Map<number, PromiseWithResolvers<void>>();
  #ids = 0;
  #isBusy = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** A file for a diagnosis of that worker: named by pid and time. */
  fileFor(handle: WorkerProcess, { kind }: Diagnosis): string {
    const time = new Date().toISOString().replaceAll(/[:.]/g, '-');
    return join(this.#parts.folder, `bosun-${handle.pid}-${time}.${kind === 'heap-snapshot' ? 'heapsnapshot' : 'cpuprofile'}`);
  }

  /**
   * Has a worker look into itself.
   * @throws RefusedError where memory or disk is short, the worker does not serve, or another one is being looked into
   */
  async take(handle: WorkerProcess, diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
    if (this.#isBusy) throw new RefusedError('another worker is being looked into: one at a time');
    if (handle.state !== 'ready' && handle.state !== 'cordoned') throw new RefusedError(`worker ${handle.id} is ${handle.state}`);
    this.#isBusy = true;
    let isCordoned = false;
    try {
      if (diagnosis.kind === 'heap-snapshot') await this.#checkRoom(handle, to);
      handle.isDiagnosed = true;
      // A snapshot blocks the worker; a profile wants its ordinary work. The only one stays in: its clients wait, and are not refused.
      isCordoned = diagnosis.kind === 'heap-snapshot' && handle.isServing && this.#parts.mayLeave(handle);
      if (isCordoned) void handle.setCordoned(true);
      await this.#ask(handle, diagnosis, to);
      this.#parts.log().info({
        event: 'worker.diagnosed',
        worker: handle.id,
        kind: diagnosis.kind,
        ...('file' in to && { file: to.file }),
      });
    } finally {
      handle.isDiagnosed = false;
      handle.silentMs = 0;
      // Two are never out of the rotation at the same time.
      if (isCordoned) await handle.setCordoned(false);
      this.#isBusy = false;
    }
  }

  /** A heap snapshot of each, one after the other, into the folder; what is refused is logged. */
  async snapshotAll(workers: readonly WorkerProcess[]): Promise<void> {
    const diagnosis: Diagnosis = { kind: 'heap-snapshot' };
    for (const worker of workers) {
      try {
        await this.take(worker, diagnosis, { file: this.fileFor(worker, diagnosis) });
      } catch (error) {
        this.#parts.log().error({ event: 'worker.snapshot-refused', worker: worker.id, error: (error as Error).message });
      }
    }
  }

  /** Hands in what workers say. */
  said(message: ToPrimary): void {
    if (message.type !== 'diagnosed') return;
    const pending = this.#pending.get(message.id);
    if (message.error === undefined) pending?.resolve();
    else pending?.reject(new RefusedError(message.error));
  }

  async #ask(handle: WorkerProcess, diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
    const id = ++this.#ids;
    const pending = Promise.withResolvers<void>();
    this.#pending.set(id, pending);
    const tooLong = setTimeout(
      () => pending.reject(new RefusedError(`worker ${handle.id} took longer than ${LONGEST_MS} ms`)),
      LONGEST_MS,
    );
    const forget = handle.onExit(() => pending.reject(new RefusedError(`worker ${handle.id} died meanwhile: ${handle.failure}`)));
    try {
      handle.send({ type: 'diagnose', id, diagnosis, to });
      await pending.promise;
    } finally {
      clearTimeout(tooLong);
      forget();
      this.#pending.delete(id);
    }
  }

  async #checkRoom(handle: WorkerProcess, to: DiagnosisTarget): Promise<void> {
    const needed = (handle.snapshot?.memory.heapUsed ?? 0) * SNAPSHOT_TO_HEAP;
    const headroom = readHeadroom(readerBelow(this.#parts.root), this.#parts.limits());
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
