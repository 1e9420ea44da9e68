/**
 * The number of workers and each worker's heap, from the container's limits and the configured count, with the reason in words. `size` is pure;
 * `detect` applies it to the real files. The reasons for the rules: docs/decisions/1-cgroup-files.md.
 */

import { availableParallelism, totalmem } from 'node:os';
import type { WorkerCount } from '../config/config.ts';
import type { Sizing } from '../protocol/api.ts';
import { type Bound, type Limits, type ReadText, readerBelow, resolveLimits } from './cgroup.ts';
import { type HeapChoice, heapOption, type NodeOptions, PLACES, takeHeapChoice } from './node-options.ts';

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
/** The part of a worker's memory that its old generation may fill; buffers, code and stacks need the rest. */
const OLD_SPACE_SHARE = 0.75;
/** V8's young generation: three semi-spaces of 8 MiB on top of --max-old-space-size. */
const YOUNG_SPACE_MIB = 24;
/** Enough for a Koa app with its dependencies and its requests. */
export const WORKABLE_HEAP_MIB = 64;
/**
 * Below this the kernel kills the primary, or the only worker, again and again: with the demo app, one worker and Redis, nothing served in 88 MiB,
 * workers were killed under load in 96 and 104, none in 112 (2026-11-29, Docker, cgroup v1).
 */
const MIN_MEMORY_MIB = 96;
/** Below this Node.js itself does not start well. */
const MIN_HEAP_MIB = 32;

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
  const heapPerWorkerMb = heapPerWorker(workers, bound, choice);
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
    ].join('; '),
    cpus,
    memory: { limitBytes: limits.memory?.value ?? null, source: limits.memory?.file ?? null, heapPerWorkerMb },
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

/** Heaps that the user has set are kept, but the kernel kills a worker if they grow beyond the memory limit. */
function oversizedHeaps(workers: number, bound: Bound | undefined, choice: HeapChoice): string[] {
  const heap = chosenHeap(workers, bound, choice);
  if (heap === undefined || bound === undefined || choice.place === undefined) return [];
  const young = choice.isWhole ? 0 : YOUNG_SPACE_MIB;
  const room = shareOf(bound, workers, 0, young);
  if (heap <= room) return [];
  const limit = Math.ceil((PRIMARY_MIB + STARTING_WORKER_MIB + (workers * (heap + young)) / OLD_SPACE_SHARE) / USABLE_SHARE);
  const remedy =
    choice.percent === undefined
      ? `lower it, or raise the memory limit to ${limit} MiB`
      : 'lower it, or unset it: the kit then decides';
  return [
    `a heap of ${heap} MiB for each of ${count(workers)} (${PLACES[choice.place]}) is too large for ${mib(bound.value)} MiB (${bound.file}), which leaves ${room} MiB: ${remedy}`,
  ];
}

/** Why no worker at all can work here; undefined where one can, or the user has set its heap. */
export function hopelessMemory(limits: Limits, machine: Machine, choice: HeapChoice = {}): string | undefined {
  const bound = memoryBound(limits, machine);
  if (bound === undefined || mib(bound.value) >= MIN_MEMORY_MIB || choice.place !== undefined) return undefined;
  const workable = Math.ceil((PRIMARY_MIB + (WORKABLE_HEAP_MIB + YOUNG_SPACE_MIB) / OLD_SPACE_SHARE) / USABLE_SHARE);
  return (
    `the memory limit must be at least ${MIN_MEMORY_MIB} MiB, and ${workable} MiB for a workable heap, got ${mib(bound.value)} MiB (${bound.file}): ` +
    `the kernel would kill the primary or its only worker; to start anyway, set the heap: WORKER_NODE_OPTIONS=--max-old-space-size=${MIN_HEAP_MIB}`
  );
}

/** The largest number of workers with a workable heap each, whatever heap NODE_OPTIONS set; and the memory limit in words. */
export function workableWorkers(limits: Limits, machine: Machine): { count: number; memory: string } {
  const bound = memoryBound(limits, machine) ?? { value: machine.totalMemoryBytes, file: "the machine's memory" };
  const perWorkerMib = (WORKABLE_HEAP_MIB + YOUNG_SPACE_MIB) / OLD_SPACE_SHARE;
  const count = Math.max(1, Math.floor((mib(bound.value) * USABLE_SHARE - PRIMARY_MIB) / perWorkerMib));
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
  let workers = wanted;
  const heap = () => chosenHeap(workers, bound, choice) ?? (bound && shareOf(bound, workers, STARTING_WORKER_MIB));
  while (workers > 1 && (heap() ?? WORKABLE_HEAP_MIB) < WORKABLE_HEAP_MIB) workers--;
  return workers;
}

/** In MiB; null to keep V8's default. */
function heapPerWorker(workers: number, bound: Bound | undefined, choice: HeapChoice): number | null {
  const chosen = chosenHeap(workers, bound, choice);
  if (chosen !== undefined || bound === undefined) return chosen ?? null;
  // If more workers run than fit, a workable heap is worth more than the reserve.
  return Math.max(shareOf(bound, workers, STARTING_WORKER_MIB), Math.min(shareOf(bound, workers, 0), WORKABLE_HEAP_MIB));
}

/** The heap set with a Node.js option, in MiB; undefined if the kit decides. */
function chosenHeap(workers: number, bound: Bound | undefined, { sizeMb, percent }: HeapChoice): number | undefined {
  if (sizeMb !== undefined || percent === undefined || bound === undefined) return sizeMb;
  return Math.max(MIN_HEAP_MIB, Math.floor((mib(bound.value) * percent) / 100 / workers));
}

/** Each worker's heap in MiB, if `reservedMib` stay free; `youngMib` of its share are for the young generation. */
function shareOf(bound: Bound, workers: number, reservedMib: number, youngMib = YOUNG_SPACE_MIB): number {
  const share = (mib(bound.value) * USABLE_SHARE - PRIMARY_MIB - reservedMib) / workers;
  return Math.max(MIN_HEAP_MIB, Math.floor(share * OLD_SPACE_SHARE - youngMib));
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
  const { heapPerWorkerMb } = sizing.memory;
  return {
    limits,
    sizing,
    workable: workableWorkers(limits, machine),
    refusal: hopelessMemory(limits, machine, choice),
    nodeOptions: environment,
    workerCommandLine: [...commandLine, ...(heapPerWorkerMb === null ? [] : [heapOption(heapPerWorkerMb, choice)])],
  };
}

function machineOf(read: ReadText, root: string): Machine {
  const machine = { cpus: availableParallelism(), totalMemoryBytes: totalmem() };
  if (root === '/') return machine;
  const meminfo = read('/proc/meminfo');
  const kib = typeof meminfo === 'string' ? /^MemTotal:\s*(\d+) kB$/m.exec(meminfo)?.[1] : undefined;
  return { ...machine, totalMemoryBytes: kib === undefined ? Number.POSITIVE_INFINITY : Number(kib) * 1024 };
}
