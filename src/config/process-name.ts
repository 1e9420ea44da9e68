/**
 * What `top`, `ps -e` and `htop` show for the processes of the kit. The command line stays: `process.title` would overwrite it, with the heap of
 * each worker.
 */
import { writeFileSync } from 'node:fs';

/** The kernel keeps no more. */
const MAX_BYTES = 15;

/** Names this process `bosun primary` or `bosun worker 3`. Does nothing where the system has no /proc. */
export function nameProcess(worker?: number): void {
  const name = worker === undefined ? 'bosun primary' : `bosun worker ${worker}`;
  try {
    writeFileSync('/proc/self/comm', name.length > MAX_BYTES ? `bosun ${worker}` : name);
  } catch {
    /* not Linux, or not permitted */
  }
}
