// Lists of CPU numbers as the kernel prints them ("0-3,8"), kept as ranges: "0-4294967295" costs no more than "0".

/** Sorted ranges that neither overlap nor are empty. */
export type CpuList = readonly { first: number; last: number }[];

/** A kernel with the largest NR_CPUS (8192) prints 20 KiB for every other CPU; what is longer is no list of CPUs. */
const LENGTH_MAX = 65_536;

/** Reads a list; [] for an empty one, undefined for anything that the kernel does not print. */
export function parseCpuList(text: string): CpuList | undefined {
  const list = text.trim();
  if (list === '') return [];
  if (list.length > LENGTH_MAX) return undefined;

  const ranges: { first: number; last: number }[] = [];
  for (const item of list.split(',')) {
    const [, from, to = from] = /^(\d+)(?:-(\d+))?$/.exec(item) ?? [];
    const range = { first: Number(from), last: Number(to) };
    if (!Number.isSafeInteger(range.last) || !(range.first <= range.last)) return undefined;
    ranges.push(range);
  }
  return mergeRanges(ranges.sort((a, b) => a.first - b.first));
}

/** How many CPUs a list holds. */
export function countCpus(list: CpuList): number {
  return list.reduce((sum, { first, last }) => sum + last - first + 1, 0);
}

/** The CPUs that are in both lists. */
export function intersectCpus(a: CpuList, b: CpuList): CpuList {
  const both: { first: number; last: number }[] = [];
  for (let i = 0, j = 0; ; ) {
    const [x, y] = [a[i], b[j]];
    if (x === undefined || y === undefined) return both;
    const range = { first: Math.max(x.first, y.first), last: Math.min(x.last, y.last) };
    if (range.first <= range.last) both.push(range);
    if (x.last < y.last) i += 1;
    else j += 1;
  }
}

function mergeRanges(sorted: CpuList): CpuList {
  const merged: { first: number; last: number }[] = [];
  for (const range of sorted) {
    const before = merged.at(-1);
    if (before !== undefined && range.first <= before.last) before.last = Math.max(before.last, range.last);
    else merged.push({ ...range });
  }
  return merged;
}
