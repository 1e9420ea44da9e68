/**
 * Heap snapshots and CPU profiles of workers: one at a time, only if memory and disk hold them, and for a snapshot with the worker out of
 * the rotation.
 */
import { readdir, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { LogSource } from '../log/log.ts';
import type { WorkerProcess } from '../pool/worker-process.ts';
import type { Diagnosis, DiagnosisTarget, ToPrimary } from '../protocol/messages.ts';
import { type Limits, readerBelow } from '../resources/cgroup.ts';
import { type Headroom, readHeadroom } from '../resources/usage.ts';

const MIB = 2 ** 20;
/** V8 builds the snapshot beside the heap. */
const SNAPSHOT_TO_HEAP = 2;
/** The size of its file: 1.2 to 1.4 times the heap was measured. */
const FILE_TO_HEAP = 1.5;
/** In statfs: TMPFS_MAGIC and RAMFS_MAGIC of linux/magic.h. */
const MEMORY_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x01021994, 0x858458f6]);
const OWN_FILE = /^bosun-\d+-.*\.(?:heapsnapshot|cpuprofile)$/;
/** Half of the volume in the manifests: Kubernetes evicts a pod that exceeds its ephemeral storage, which no file in the pod shows. */
const MAX_KEPT_BYTES = 512 * MIB;
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
      pending.reject(new RefusedError(`worker ${handle.id} exited during the diagnosis: ${handle.failure ?? handle.reason}`)),
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
    const { root, limits, folder } = this.#context;
    const target = 'file' in to ? await targetOf(to.file, folder) : undefined;
    const headroom = readHeadroom(readerBelow(root), limits());
    const objection = objectionTo({ worker: handle.id, heapBytes: handle.snapshot?.memory.heapUsed ?? 0, headroom, target });
    if (objection !== undefined) throw new RefusedError(objection);
  }
}

/** Where the file of a snapshot is to go. */
export interface SnapshotTarget {
  folder: string;
  freeBytes: number;
  /** A tmpfs: its files use up the memory limit. */
  isMemory: boolean;
  /** Of earlier snapshots and profiles; 0 outside DIAGNOSTICS_DIR. */
  keptBytes: number;
}

export interface SnapshotRoom {
  worker: number;
  heapBytes: number;
  /** Undefined without a memory limit. */
  headroom: Headroom | undefined;
  /** Undefined if it is streamed. */
  target: SnapshotTarget | undefined;
}

/** Why there is no room for a snapshot; undefined if there is. */
export function objectionTo({ worker, heapBytes, headroom, target }: SnapshotRoom): string | undefined {
  const snapshot = `a snapshot of worker ${worker}`;
  const stream = 'remove what is there, or use --output -, which writes no file';
  const fileBytes = heapBytes * FILE_TO_HEAP;
  const inMemory = target?.isMemory ? fileBytes : 0;
  const needed = heapBytes * SNAPSHOT_TO_HEAP + inMemory;
  if (headroom !== undefined && headroom.bytes < needed) {
    const free = `only ${mib(headroom.bytes)} MiB of ${mib(headroom.limitBytes)} MiB are free (${headroom.file})`;
    const file =
      inMemory === 0 ? '' : `; ${mib(inMemory)} of them are for its file, since ${target?.folder} is in memory: ${stream}`;
    return `${snapshot} needs about ${mib(needed)} MiB of memory, but ${free}${file}`;
  }
  if (target === undefined) return undefined;
  const { folder, freeBytes, keptBytes } = target;
  if (freeBytes < fileBytes)
    return `${snapshot} needs about ${mib(fileBytes)} MiB of disk, and ${mib(freeBytes)} MiB are free in ${folder}: ${stream}`;
  if (keptBytes > 0 && keptBytes + fileBytes > MAX_KEPT_BYTES)
    return `${folder} has ${mib(keptBytes)} MiB of earlier snapshots and profiles, and ${snapshot} needs about ${mib(fileBytes)} MiB: with more than ${mib(MAX_KEPT_BYTES)} MiB the pod may be evicted; ${stream}`;
  return undefined;
}

async function targetOf(file: string, diagnosticsDir: string): Promise<SnapshotTarget> {
  const folder = dirname(file);
  const { bavail, bsize, type } = await statfs(folder);
  const keptBytes = folder === diagnosticsDir ? await keptIn(folder) : 0;
  return { folder, freeBytes: bavail * bsize, isMemory: MEMORY_FILE_SYSTEMS.has(type), keptBytes };
}

async function keptIn(folder: string): Promise<number> {
  const names = (await readdir(folder)).filter(name => OWN_FILE.test(name));
  const sizes = await Promise.all(
    names.map(name =>
      stat(join(folder, name)).then(
        ({ size }) => size,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

const mib = (bytes: number) => Math.round(bytes / MIB);
