/**
 * Heap snapshots and CPU profiles of workers: one at a time, only where there is room, and with the worker out of the rotation.
 */
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogSource } from '../log.ts';
import type { Diagnosis, DiagnosisTarget, ToPrimary } from '../messages.ts';
import { type Limits, readerBelow } from '../resources/cgroup.ts';
import { readUsage } from '../resources/usage.ts';
import type { WorkerHandle } from './worker-handle.ts';

const MIB = 2 ** 20;
/** V8 builds the snapshot beside the heap, and its text is as large again. */
const SNAPSHOT_TO_HEAP = 2;
const LONGEST_MS = 10 * 60_000;

/** Not now, and why. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
}

export class Diagnostics {
  readonly #limits: () => Limits;
  readonly #folder: string;
  readonly #log: LogSource;
  readonly #pending = new Map<number, PromiseWithResolvers<void>>();
  #ids = 0;
  #isBusy = false;

  /** @param folder DIAGNOSTICS_DIR */
  constructor(limits: () => Limits, folder: string, log: LogSource) {
    this.#limits = limits;
    this.#folder = folder;
    this.#log = log;
  }

  /** A file for a diagnosis of that worker: named by pid and time. */
  fileFor(handle: WorkerHandle, { kind }: Diagnosis): string {
    const time = new Date().toISOString().replaceAll(/[:.]/g, '-');
    return join(this.#folder, `bosun-${handle.pid}-${time}.${kind === 'heap-snapshot' ? 'heapsnapshot' : 'cpuprofile'}`);
  }

  /**
   * Has a worker look into itself.
   * @throws RefusedError where memory or disk is short, the worker does not serve, or another one is being looked into
   */
  async take(handle: WorkerHandle, diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
    if (this.#isBusy) throw new RefusedError('another worker is being looked into: one at a time');
    if (handle.state !== 'ready' && handle.state !== 'cordoned') throw new RefusedError(`worker ${handle.id} is ${handle.state}`);
    this.#isBusy = true;
    const wasReady = handle.state === 'ready';
    try {
      if (diagnosis.kind === 'heap-snapshot') await this.#checkRoom(handle, to);
      handle.isDiagnosed = true;
      // A snapshot blocks the worker; a profile wants its ordinary work.
      if (diagnosis.kind === 'heap-snapshot' && wasReady) handle.send({ type: 'cordon' });
      await this.#ask(handle, diagnosis, to);
      this.#log().info({
        event: 'worker.diagnosed',
        worker: handle.id,
        kind: diagnosis.kind,
        ...('file' in to && { file: to.file }),
      });
    } finally {
      if (diagnosis.kind === 'heap-snapshot' && wasReady) handle.send({ type: 'uncordon' });
      handle.isDiagnosed = false;
      handle.silentMs = 0;
      this.#isBusy = false;
    }
  }

  /** A heap snapshot of each, one after the other, into the folder; what is refused is logged. */
  async snapshotAll(workers: readonly WorkerHandle[]): Promise<void> {
    const diagnosis: Diagnosis = { kind: 'heap-snapshot' };
    for (const worker of workers) {
      try {
        await this.take(worker, diagnosis, { file: this.fileFor(worker, diagnosis) });
      } catch (error) {
        this.#log().error({ event: 'worker.snapshot-refused', worker: worker.id, error: (error as Error).message });
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

  async #ask(handle: WorkerHandle, diagnosis: Diagnosis, to: DiagnosisTarget): Promise<void> {
    const id = ++this.#ids;
    const pending = Promise.withResolvers<void>();
    this.#pending.set(id, pending);
    const tooLong = setTimeout(
      () => pending.reject(new RefusedError(`worker ${handle.id} took longer than ${LONGEST_MS} ms`)),
      LONGEST_MS,
    );
    const gone = () => pending.reject(new RefusedError(`worker ${handle.id} died meanwhile: ${handle.failure}`));
    handle.onExit(gone);
    try {
      handle.send({ type: 'diagnose', id, diagnosis, to });
      await pending.promise;
    } finally {
      clearTimeout(tooLong);
      this.#pending.delete(id);
    }
  }

  async #checkRoom(handle: WorkerHandle, to: DiagnosisTarget): Promise<void> {
    const needed = (handle.snapshot?.memory.heapUsed ?? 0) * SNAPSHOT_TO_HEAP;
    const { memory, usage } = this.#limits();
    const used = readUsage(readerBelow(), usage).memoryBytes;
    if (memory !== null && used !== null && memory.value - used < needed) {
      throw new RefusedError(
        `a snapshot of worker ${handle.id} needs about ${mib(needed)} MiB of memory, and ${mib(memory.value - used)} MiB are left of ${mib(memory.value)} MiB (${memory.file})`,
      );
    }
    if (!('file' in to)) return;
    const { bavail, bsize } = await statfs(this.#folder);
    if (bavail * bsize < needed) {
      throw new RefusedError(
        `a snapshot of worker ${handle.id} needs about ${mib(needed)} MiB of disk, and ${mib(bavail * bsize)} MiB are free in ${this.#folder} (DIAGNOSTICS_DIR)`,
      );
    }
  }
}

const mib = (bytes: number) => Math.round(bytes / MIB);
