/**
 * Workers of a primary that is dead, which a hang or SIGSTOP keeps from noticing: they hold the port. The system ends them with their primary
 * where it can (spawn.ts); here the next start finds those that are proven to be its own.
 */
import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LogSource } from '../../log.ts';

/** In the environment of a worker, and of nothing that it starts: its primary, and the port. */
export const PRIMARY_VARIABLE = 'BOSUN_PRIMARY';
const MARK = new RegExp(`(?:^|\0)${PRIMARY_VARIABLE}=(\\d+):(\\d+)\0`);

export const primaryMark = (port: number) => `${process.pid}:${port}`;

/** A killed process is gone at once, unless the machine is very busy. */
const GONE_TIMEOUT_MS = 5000;
const LOOK_EVERY_MS = 20;

interface Orphan {
  pid: number;
  primary: number;
  startTime: string;
}

/** Ends the workers that a dead primary has left on `port`; resolves with their number when they are gone. Finds none where there is no /proc. */
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

/** A worker of our user in our namespace whose parent is not its primary any more: the kernel gives a process another parent when its own has died. */
function orphanWith(pid: number, port: number): Orphan | undefined {
  try {
    if (pid === process.pid || statSync(`/proc/${pid}`).uid !== process.getuid?.()) return undefined;
    const [, primary, on] = MARK.exec(readFileSync(`/proc/${pid}/environ`, 'latin1')) ?? [];
    const state = stateOf(pid);
    if (primary === undefined || Number(on) !== port || state === undefined || state.parent === Number(primary)) return undefined;
    if (readlinkSync(`/proc/${pid}/ns/pid`) !== readlinkSync('/proc/self/ns/pid')) return undefined; // its ids are others
    return { pid, primary: Number(primary), startTime: state.startTime };
  } catch {
    return undefined; // it has ended since, or is not ours to read
  }
}

/** Undefined for one that has ended, with all its threads: the last one closes the port. A process id may be used again, with another start time. */
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
