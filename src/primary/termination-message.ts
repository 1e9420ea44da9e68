/**
 * Where a container's platform looks for the reason of an exit: Kubernetes shows /dev/termination-log in the pod's status.
 */
import { existsSync, writeFileSync } from 'node:fs';

const TERMINATION_LOG = '/dev/termination-log';
/** Kubernetes reads no more. */
const MOST_BYTES = 4096;

/** Writes `message` where such a file exists. */
export function leaveLastWords(message: string, file: string = TERMINATION_LOG): void {
  if (!existsSync(file)) return;
  try {
    writeFileSync(file, Buffer.from(message).subarray(0, MOST_BYTES));
  } catch {
    /* the platform gave us a file that we may not write; the log has the message too */
  }
}
