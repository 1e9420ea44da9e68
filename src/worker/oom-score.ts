/**
 * When memory runs out, the kernel should kill a worker and leave the primary, which replaces it and tells.
 */
import { readFileSync, writeFileSync } from 'node:fs';

const RAISE = 300;
const MOST = 1000;

/** Raises this process' own score, which anybody may. */
export function letKernelPreferUs(): void {
  const file = '/proc/self/oom_score_adj';
  try {
    writeFileSync(file, String(Math.min(MOST, Number(readFileSync(file, 'utf8')) + RAISE)));
  } catch {
    /* no such file, or not ours to write: the kernel chooses by size alone */
  }
}
