/**
 * The number of workers and each worker's heap, from the container's limits and the configured count, with the reason in words. `size` is pure;
 * `detect` applies it to the real files. The reasons for the rules: docs/decisions/1-cgroup-files.md.
 */

import { availableParallelism, totalmem } from 'node:os';
import type { WorkerCount } from '../config/config.ts';
import type { Sizing } from '../protocol/sizing.ts';
import { type Bound, type Limits, type ReadText, readerBelow, resolveLimits } from './cgroup.ts';
import {
  divide,
  HEAP_SHARE,
  type Heap,
  MIN_HEAP_MIB,
  semiSpaceFor,
  shareFor,
  WORKABLE_HEAP_MIB,
  youngGeneration,
} from './heap.ts';
import { type HeapChoice, heapOptions, type NodeOptions, PLACES, takeHeapChoice } from './node-options.ts';

const MIB = 1024 * 1024;
/** The primary's own resident memory. */
const PRIMARY_MIB = 64;
/**
 * Kept free for a worker that starts beside the one that it replaces, so that a pool sized by `auto` restarts without interruption: a small
 * Koa app has 38 to 44 MiB of private pages (the program itself is shared).
 */
const STARTING_WORKER_MIB = 48;
/** The rest is left to the kernel: page cache, sockets, page tables. */
const USABLE_SHARE = 0.92;
/**
 * Below this the kernel kills the primary, or the only worker, again and again: with the demo app, one worker and Redis, nothing served in 88 MiB,
 * workers were killed under load in 96 and 104, none in 112 (2026-11-29, Docker, cgroup v1).
 */
const MIN_MEMORY_MIB = 96;

/** The machine's resources, for a container without limits. */
export interface Machine {
  cpus: number;
  totalMemoryBytes: number;
}

/** Decides on the number of workers and the heap of each. */
export function size(limits: Limits, requested: WorkerCount, machine: Machine, choice: HeapChoice = {}): Sizing {
  const cpus = effectiveCpus(limits, machine);
  const bound = memoryBound(limits, machine);
  const { count: wanted, words } = countFor(requested, cpus.effective);
  const mayShrink = requested.kind === 'auto' || requested.kind === 'share';
  const workers = mayShrink ? mostWithWorkableHeap(wanted, bound, choice) : wanted;
  const heap = heapOf(workers, bound, choice);
  const { heapPerWorkerMb } = heap;
  return {
    workers,
    wanted,
    reason: [
      `${count(workers)}: ${words} (${cpus.source})`,
      ...(workers < wanted && bound
        ? [
            `lowered from ${wanted} for memory: ${mib(bound.value)} MiB (${bound.file}) has room for no more heaps of ${WORKABLE_HEAP_MIB} MiB`,
          ]
        : []),
      ...(choice.place === undefined ? [] : [`heap as set in ${PLACES[choice.place]}`]),
      ...(choice.semiSpacePlace === undefined ? [] : [`young generation as set in ${PLACES[choice.semiSpacePlace]}`]),
    ].join('; '),
    cpus,
    memory: { limitBytes: limits.memory?.value ?? null, source: limits.memory?.file ?? null, ...heap },
    warnings: [
      ...(requested.kind === 'count' && workers > cpus.effective
        ? [`${count(workers)} on ${cores(cpus.effective)}: they compete for CPU time`]
        : []),
      ...(heapPerWorkerMb !== null && heapPerWorkerMb < WORKABLE_HEAP_MIB
        ? [
            `a heap of ${heapPerWorkerMb} MiB per worker is below the workable ${WORKABLE_HEAP_MIB} MiB: raise the memory limit or lower NODE_CLUSTER_WORKERS`,
          ]
        : []),
      ...oversizedHeaps(workers, bound, choice),
    ],
  };
}

/** What the user has set is kept, but the kernel kills a worker if its heap grows beyond the memory limit. */
function oversizedHeaps(workers: number, bound: Bound | undefined, choice: HeapChoice): string[] {
  const { heapPerWorkerMb: heap, semiSpaceMb: semiSpace } = heapOf(workers, bound, choice);
  const { place, isWhole, percent, semiSpaceMb, semiSpacePlace } = choice;
  if (heap === null || bound === undefined || (place ?? semiSpacePlace) === undefined) return [];
  const share = shareOf(bound, workers, 0);
  const young = isWhole || semiSpace === null ? 0 : youngGeneration(semiSpace);
  if (heap + young <= share * HEAP_SHARE) return [];
  const forAll = (where: keyof NodeOptions) => `for each of ${count(workers)} (${PLACES[where]}) is too large for`;
  const memory = `${mib(bound.value)} MiB (${bound.file})`;
  const unset = 'lower it, or unset it: the kit then decides';
  if (place === undefined)
    return semiSpacePlace === undefined
      ? []
      : [`a young generation of ${young} MiB (--max-semi-space-size) ${forAll(semiSpacePlace)} ${memory}: ${unset}`];
  const room = isWhole ? Math.floor(share * HEAP_SHARE) : divide(share, semiSpaceMb).heapPerWorkerMb;
  const needed = isWhole ? heap / HEAP_SHARE : shareFor(heap, semiSpaceMb);
  const limit = Math.ceil((PRIMARY_MIB + STARTING_WORKER_MIB + workers * needed) / USABLE_SHARE);
  const remedy = percent === undefined ? `lower it, or raise the memory limit to ${limit} MiB` : unset;
  return [`a heap of ${heap} MiB ${forAll(place)} ${memory}, which leaves ${room} MiB: ${remedy}`];
}

/** Why no worker at all can work here; undefined where one can, or the user has set its heap. */
export function hopelessMemory(limits: Limits, machine: Machine, choice: HeapChoice = {}): string | undefined {
  const bound = memoryBound(limits, machine);
  if (bound === undefined || mib(bound.value) >= MIN_MEMORY_MIB || choice.place !== undefined) return undefined;
  const workable = Math.ceil((PRIMARY_MIB + shareFor(WORKABLE_HEAP_MIB)) / USABLE_SHARE);
  return (
    `the memory limit must be at least ${MIN_MEMORY_MIB} MiB, and ${workable} MiB for a workable heap, got ${mib(bound.value)} MiB (${bound.file}): ` +
    `the kernel would kill the primary or its only worker; to start anyway, set the heap: WORKER_NODE_OPTIONS=--max-old-space-size=${MIN_HEAP_MIB}`
  );
}

/** The largest number of workers with a workable heap each, whatever heap NODE_OPTIONS set; and the memory limit in words. */
export function workableWorkers(limits: Limits, machine: Machine): { count: number; memory: string } {
  const bound = memoryBound(limits, machine) ?? { value: machine.totalMemoryBytes, file: "the machine's memory" };
  const count = Math.max(1, Math.floor((mib(bound.value) * USABLE_SHARE - PRIMARY_MIB) / shareFor(WORKABLE_HEAP_MIB)));
  return { count, memory: `${mib(bound.value)} MiB (${bound.file})` };
}

function effectiveCpus({ quota, cpuset }: Limits, machine: Machine): Sizing['cpus'] {
  const allowed = cpuset?.value ?? machine.cpus;
  const isQuotaTighter = quota !== null && quota.value <= allowed;
  return {
    quota: quota?.value ?? null,
    cpuset: cpuset?.value ?? null,
    effective: isQuotaTighter ? quota.value : allowed,
    source: isQuotaTighter ? quota.file : (cpuset?.file ?? 'os.availableParallelism()'),
  };
}

/** The smaller of the limit and memory.high, if it is below the machine's memory; 0 is no limit. Without one, V8's default heap stays. */
function memoryBound({ memory, memoryHigh }: Limits, machine: Machine): Bound | undefined {
  const bounds = [memory, memoryHigh].filter(
    bound => bound !== null && bound.value > 0 && bound.value < machine.totalMemoryBytes,
  ) as Bound[];
  return bounds.sort((a, b) => a.value - b.value)[0];
}

function countFor(requested: WorkerCount, effective: number): { count: number; words: string } {
  switch (requested.kind) {
    case 'auto':
      // Half up loses least: the floor wastes the rest, the ceiling makes all workers stall at the quota.
      return { count: Math.max(1, Math.floor(effective + 0.5)), words: `${cores(effective)}, rounded half up` };
    case 'max':
      return { count: Math.max(1, Math.ceil(effective)), words: `${cores(effective)}, rounded up` };
    case 'share':
      return {
        count: Math.max(1, Math.floor(effective * requested.share + 0.5)),
        words: `${requested.share * 100}% of ${cores(effective)}, rounded half up`,
      };
    case 'count':
      return { count: requested.count, words: `as set; ${cores(effective)}` };
    default:
      return requested satisfies never;
  }
}

function mostWithWorkableHeap(wanted: number, bound: Bound | undefined, choice: HeapChoice): number {
  const isWorkable = (workers: number) => {
    const chosen = chosenHeap(workers, bound, choice);
    if (chosen !== undefined) return chosen >= WORKABLE_HEAP_MIB;
    return bound === undefined || shareOf(bound, workers, STARTING_WORKER_MIB) >= shareFor(WORKABLE_HEAP_MIB, choice.semiSpaceMb);
  };
  let workers = wanted;
  while (workers > 1 && !isWorkable(workers)) workers--;
  return workers;
}

function heapOf(workers: number, bound: Bound | undefined, choice: HeapChoice): Heap {
  const chosen = chosenHeap(workers, bound, choice);
  // With --max-heap-size V8 divides the heap itself, and without a memory limit it has enough.
  if (choice.isWhole || bound === undefined) return { heapPerWorkerMb: chosen ?? null, semiSpaceMb: choice.semiSpaceMb ?? null };
  const most = shareOf(bound, workers, 0);
  if (chosen !== undefined)
    return { heapPerWorkerMb: chosen, semiSpaceMb: choice.semiSpaceMb ?? semiSpaceFor(chosen, most * HEAP_SHARE) };
  // If more workers run than fit, a workable heap is worth more than the reserve.
  const workable = Math.min(most, shareFor(WORKABLE_HEAP_MIB, choice.semiSpaceMb));
  return divide(Math.max(shareOf(bound, workers, STARTING_WORKER_MIB), workable), choice.semiSpaceMb);
}

/** The heap set with a Node.js option, in MiB; undefined if the kit decides. */
function chosenHeap(workers: number, bound: Bound | undefined, { sizeMb, percent }: HeapChoice): number | undefined {
  if (sizeMb !== undefined || percent === undefined || bound === undefined) return sizeMb;
  return Math.max(MIN_HEAP_MIB, Math.floor((mib(bound.value) * percent) / 100 / workers));
}

/** Each worker's share of the memory in MiB, if `reservedMib` stay free. */
function shareOf(bound: Bound, workers: number, reservedMib: number): number {
  return (mib(bound.value) * USABLE_SHARE - PRIMARY_MIB - reservedMib) / workers;
}

const mib = (bytes: number) => Math.floor(bytes / MIB);
const count = (workers: number) => `${workers} worker${workers === 1 ? '' : 's'}`;
const cores = (number: number) => `${Math.round(number * 1000) / 1000} CPU${number === 1 ? '' : 's'}`;

export interface Detected {
  limits: Limits;
  sizing: Sizing;
  /** The largest number of workers with a workable heap each. */
  workable: { count: number; memory: string };
  /** Why the pool must not start; undefined if it may. */
  refusal: string | undefined;
  /** NODE_OPTIONS for the workers, without heap options, which are on their command line. */
  nodeOptions: string;
  workerCommandLine: string[];
}

/** Sizes the pool for this container, or for the one whose /proc and /sys were copied below `root`. @param limits if they are already known */
export function detect(
  requested: WorkerCount,
  nodeOptions: NodeOptions,
  root = '/',
  limits: Limits = resolveLimits(readerBelow(root)),
): Detected {
  const { choice, environment, commandLine } = takeHeapChoice(nodeOptions);
  const machine = machineOf(readerBelow(root), root);
  const sizing = size(limits, requested, machine, choice);
  return {
    limits,
    sizing,
    workable: workableWorkers(limits, machine),
    refusal: hopelessMemory(limits, machine, choice),
    nodeOptions: environment,
    workerCommandLine: [...commandLine, ...heapOptions(sizing.memory, choice)],
  };
}

function machineOf(read: ReadText, root: string): Machine {
  const machine = { cpus: availableParallelism(), totalMemoryBytes: totalmem() };
  if (root === '/') return machine;
  const meminfo = read('/proc/meminfo');
  const kib = typeof meminfo === 'string' ? /^MemTotal:\s*(\d+) kB$/m.exec(meminfo)?.[1] : undefined;
  return { ...machine, totalMemoryBytes: kib === undefined ? Number.POSITIVE_INFINITY : Number(kib) * 1024 };
}
