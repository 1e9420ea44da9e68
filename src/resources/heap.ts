/**
 * How a worker's share of the memory is divided: V8's old and young generation, and the rest for buffers, code and stacks. Sizes are in MiB.
 *
 * A young generation is three semi-spaces: two between which V8 copies, and one for large objects (V8, `YoungGenerationSizeFromSemiSpaceSize`).
 * It is rounded up to a power of two (V8, `Heap::ConfigureHeap`) and comes on top of --max-old-space-size: `heap_size_limit` of
 * `v8.getHeapStatistics()` is the sum of both in Node.js 22.18, 24.22 and 26.10 (measured 2026-11-29 in containers of 128 MiB to 20 GiB).
 * Without --max-semi-space-size V8 takes a semi-space by the memory limit of the container, not by the heap: 1, 1 and 4 MiB in
 * these versions in 512 MiB, 4, 16 and 8 MiB in 1 GiB, 16, 64 and 32 MiB in 4 GiB.
 */

/** The part of a worker's memory that both generations may fill. */
export const HEAP_SHARE = 0.75;
/** Below this Node.js itself does not start well. */
export const MIN_HEAP_MIB = 32;
/** Enough for a Koa app with its dependencies and its requests. */
export const WORKABLE_HEAP_MIB = 64;

const SEMI_SPACES_MIB = [32, 16, 8, 4];
/** V8's own choice in the smallest containers (Node.js 26). */
const MIN_SEMI_SPACE_MIB = 2;
/** A semi-space is at most this part of the old generation. */
const SEMI_SPACE_PART = 8;

export interface Heap {
  /** --max-old-space-size, or --max-heap-size where that was set; null leaves V8's own default. */
  heapPerWorkerMb: number | null;
  /** --max-semi-space-size; null leaves V8's own default. */
  semiSpaceMb: number | null;
}

export const isSameHeap = (one: Heap, other: Heap): boolean =>
  one.heapPerWorkerMb === other.heapPerWorkerMb && one.semiSpaceMb === other.semiSpaceMb;

/** What V8 reserves for the young generation. */
export const youngGeneration = (semiSpaceMib: number): number => 3 * semiSpaceMib;

/** The semi-space for an old generation of `heapMib`: the largest that is at most an eighth of it, and fits into `room` with it. */
export function semiSpaceFor(heapMib: number, room = Number.POSITIVE_INFINITY): number {
  const fits = (mib: number) => mib * SEMI_SPACE_PART <= heapMib && heapMib + youngGeneration(mib) <= room;
  return SEMI_SPACES_MIB.find(fits) ?? MIN_SEMI_SPACE_MIB;
}

/** Divides a worker's share. @param semiSpaceMib if the operator has set it */
export function divide(shareMib: number, semiSpaceMib?: number): { heapPerWorkerMb: number; semiSpaceMb: number } {
  const room = shareMib * HEAP_SHARE;
  const heapBeside = (mib: number) => Math.floor(room - youngGeneration(mib));
  const fits = (mib: number) => mib * SEMI_SPACE_PART <= heapBeside(mib);
  const semiSpaceMb = semiSpaceMib ?? SEMI_SPACES_MIB.find(fits) ?? MIN_SEMI_SPACE_MIB;
  return { heapPerWorkerMb: Math.max(MIN_HEAP_MIB, heapBeside(semiSpaceMb)), semiSpaceMb };
}

/** The share that a heap needs, with its young generation. @param semiSpaceMib if the operator has set it */
export function shareFor(heapMib: number, semiSpaceMib = semiSpaceFor(heapMib)): number {
  return (heapMib + youngGeneration(semiSpaceMib)) / HEAP_SHARE;
}
