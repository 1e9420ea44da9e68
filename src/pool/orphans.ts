/**
 * Workers of a dead primary that cannot notice it, because they hang or are stopped, and so hold the port. The system ends them with their primary
 * if it can (spawn.ts); otherwise the next start finds here the ones that are proven to belong to this kit and port.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LogSource } from '../log/log.ts';

/** In the environment of a worker, but not of its child processes: its primary and the port. */
export const PRIMARY_VARIABLE = 'BOSUN_PRIMARY';
const MARK = new RegExp(`(?:^|\0)${PRIMARY_VARIABLE}=(\\d+):(\\d+)\0`);

export const primaryMark = (port: number) => `${process.pid}:${port}`;

/** A killed process ends at once, unless the machine is very busy. */
const GONE_TIMEOUT_MS = 5000;
const LOOK_EVERY_MS = 20;

interface Orphan {
  pid: number;
  primary: number;
  startTime: string;
}

/** Ends the workers that a dead primary has left on `port`; resolves with their number when they have ended. Finds none without /proc. */
export async function endOrphans(port: number, log: LogSource): Promise<number> {
  const orphans = processIds().flatMap(pid => orphanWith(pid, port) ?? []);
  for (const { pid, primary, startTime } of orphans) {
    if (stateOf(pid)?.startTime !== startTime) continue; // another process by now
    process.kill(pid, 'SIGKILL');
    log().warn({ event: 'orphan.ended', workerPid: pid, primaryPid: primary });
  }
  const deadline = performance.now() + GONE_TIMEOUT_MS;
  const isLeft = ({ pid, startTime }: Orphan) => stateOf(pid)?.startTime === startTime;
  while (orphans.some(isLeft) && performance.now() < deadline) await sleep(LOOK_EVERY_MS);
  return orphans.length;
}

/** A worker of our user in our namespace whose parent is no longer its primary: the kernel reparents a process when its parent dies. */
function orphanWith(pid: number, port: number): Orphan | undefined {
  try {
    if (pid === process.pid || statSync(`/proc/${pid}`).uid !== process.getuid?.()) return undefined;
    const [, primary, on] = MARK.exec(readFileSync(`/proc/${pid}/environ`, 'latin1')) ?? [];
    const state = stateOf(pid);
    if (primary === undefined || Number(on) !== port || state === undefined || state.parent === Number(primary)) return undefined;
    if (readlinkSync(`/proc/${pid}/ns/pid`) !== readlinkSync('/proc/self/ns/pid')) return undefined; // another pid namespace
    return { pid, primary: Number(primary), startTime: state.startTime };
  } catch {
    return undefined; // it has ended, or we may not read it
  }
}

/** Undefined once it has ended with all its threads: the last one closes the port. A process id may be reused, with another start time. */
function stateOf(pid: number): { parent: number; startTime: string } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const [state = 'X', parent] = fields;
    const hasEnded = /[ZX]/.test(state) && readdirSync(`/proc/${pid}/task`).length <= 1;
    return hasEnded ? undefined : { parent: Number(parent), startTime: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

function processIds(): number[] {
  try {
    return readdirSync('/proc').map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}
