/**
 * The heap limit in NODE_OPTIONS: taken out, because `--max-old-space-size-percentage` there would beat the limit that each worker
 * gets on its command line, and because it would count once per process (docs/decisions/1-cgroup-files.md).
 */
import type { HeapChoice } from './sizing.ts';

const HEAP_OPTION = /(?:^|\s)--max[-_]old[-_]space[-_]size([-_]percentage)?(?:=|\s+)(\d+(?:\.\d+)?)(?=\s|$)/g;

/** Splits NODE_OPTIONS into what it says of the heap (the last one wins, as in Node.js) and the rest. */
export function takeHeapChoice(nodeOptions: string): { choice: HeapChoice; rest: string } {
  let choice: HeapChoice = {};
  for (const [, percentage, value] of nodeOptions.matchAll(HEAP_OPTION)) {
    const number = Number(value);
    if (number > 0) choice = percentage ? { percent: number } : { sizeMb: Math.floor(number) };
  }
  return { choice, rest: nodeOptions.replaceAll(HEAP_OPTION, '').trim() };
}
