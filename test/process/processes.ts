/**
 * What runs on this machine, as the system sees it.
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { until } from '../until.ts';

/** Whether a process with this id runs; a zombie does not. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  return processes().some(process => process.pid === pid);
}

/** The processes of a group; a kit that was started `detached` is one with its workers. */
export function groupOf(group: number): number[] {
  return processes().flatMap(process => (process.group === group ? [process.pid] : []));
}

export function childrenOf(parent: number): number[] {
  return processes().flatMap(process => (process.parent === parent ? [process.pid] : []));
}

/** Every process of this machine but the zombies. From /proc, since small images have no `ps`; with `ps` where there is no /proc. */
function processes(): { pid: number; parent: number; group: number }[] {
  return listProcesses().flatMap(([pid = 0, state = '', parent = 0, group = 0]) =>
    /^[ZX]/.test(String(state)) ? [] : [{ pid: Number(pid), parent: Number(parent), group: Number(group) }],
  );
}

function listProcesses(): string[][] {
  if (!existsSync('/proc/self/stat')) {
    const table = execFileSync('ps', ['-axo', 'pid=,stat=,ppid=,pgid='], { encoding: 'utf8' });
    return table.split('\n').map(line => line.trim().split(/\s+/));
  }
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .flatMap(pid => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
        return [[pid, ...stat.slice(stat.lastIndexOf(')') + 2).split(' ', 3)]];
      } catch {
        return []; // it has ended since
      }
    });
}

const SIGTTOU_BIT = 1n << 21n;

/** Resolves when this primary's handlers are installed. SIGTTOU's comes after SIGTERM's, for which Node itself has one from the start. */
export async function handlesSignals(pid: number): Promise<void> {
  await until(
    () => {
      const caught = /^SigCgt:\s*([0-9a-f]+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      return (BigInt(`0x${caught ?? '0'}`) & SIGTTOU_BIT) !== 0n || undefined;
    },
    () => 'the primary has no handler for SIGTTOU',
  );
}

const ours = new Set<ChildProcess>();
let isWatching = false;

/** Ends a process with this one, however this one ends: a benchmark that fails or is interrupted leaves nothing behind. */
export function endWithUs(child: ChildProcess): void {
  if (!isWatching) process.once('exit', () => ours.forEach(each => void each.kill('SIGKILL')));
  isWatching = true;
  ours.add(child);
  child.once('exit', () => ours.delete(child));
}
