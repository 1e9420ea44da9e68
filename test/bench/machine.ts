/**
 * The machine on which a benchmark runs: what it is, and what happens on it that is not the benchmark (Linux, from /proc).
 */
import { execFileSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus, release, type } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Comparison, isQuiet, measureRounds, type Noise, type Plan } from './rounds.ts';

/** In percent of the CPU time of the whole machine. */
const BOUNDS: Noise = {
  steal: Number(process.env.MAX_STEAL ?? 2) / 100,
  foreign: Number(process.env.MAX_FOREIGN ?? 5) / 100,
};
/** For `compare`, where servers are not children of this process, or end after their parents: their time is in that of other processes. */
export const ANY_FOREIGN = 1;
/** Linux counts CPU time in hundredths of a second (USER_HZ). */
const TICKS_PER_SECOND = 100;
const CALM_SAMPLE_MS = 500;
const CALM_TIMEOUT_MS = 10_000;

/** See rounds.ts. @param foreign a bound of its own, for servers that are not children of this process @throws TooNoisy */
export function compare<S extends string, F extends string>(plan: Plan<S, F>, foreign = BOUNDS.foreign): Promise<Comparison> {
  return measureRounds(plan, { bounds: { ...BOUNDS, foreign }, watch, calm, progress });
}

/** Overwrites the last progress on the terminal; a log gets a line each. */
export function progress(text: string): void {
  process.stderr.write(process.stderr.isTTY ? `\r${text}\u001b[K` : `${text}\n`);
}

export interface Machine {
  cpus: number;
  model: string;
  isVirtual: boolean;
  kernel: string;
  node: string;
}

export function machine(): Machine {
  return {
    cpus: availableParallelism(),
    model: cpus()[0]?.model.trim() ?? 'unknown',
    isVirtual: /^flags.*\bhypervisor\b/m.test(readWhereThere('/proc/cpuinfo')),
    kernel: `${type()} ${release()}`,
    node: process.version,
  };
}

/** The short name of the commit that is checked out; with `+` if files differ from it, undefined without git. */
export function commit(): string | undefined {
  const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return git('rev-parse', '--short=7', 'HEAD') + (git('status', '--porcelain', '--untracked-files=no') === '' ? '' : '+');
  } catch {
    return undefined;
  }
}

async function calm(): Promise<void> {
  const deadline = performance.now() + CALM_TIMEOUT_MS;
  let noise: Noise;
  do {
    const watched = watch();
    await sleep(CALM_SAMPLE_MS);
    noise = watched();
  } while (!isQuiet(noise, BOUNDS) && performance.now() < deadline);
}

function watch(): () => Noise {
  const before = usage();
  return () => noiseBetween(before, usage());
}

/** CPU time so far, in ticks of a hundredth of a second. */
export interface Usage {
  /** Of the machine, all CPUs together, in which a process ran. */
  busy: number;
  steal: number;
  /** Of the machine: busy, stolen or idle. */
  total: number;
  /** Of the benchmark: this process, its servers and generators. */
  own: number;
}

/** What is less than a tick for each count is none: a process's time and the machine's are counted in different ways. */
const ROUNDING_TICKS = 2;

export function noiseBetween(before: Usage, after: Usage): Noise {
  const total = after.total - before.total;
  const foreign = after.busy - before.busy - (after.own - before.own);
  return { steal: share(after.steal - before.steal, total), foreign: share(foreign - ROUNDING_TICKS, total) };
}

const share = (ticks: number, total: number) => (ticks <= 0 ? 0 : ticks / Math.max(total, 1));

function usage(): Usage {
  const own = treeOf(process.pid).reduce((sum, pid) => sum + ticksWithEnded(readWhereThere(`/proc/${pid}/stat`)), 0);
  return { ...machineTicks(readFileSync('/proc/stat', 'utf8')), own };
}

/**
 * The first line of /proc/stat (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq, steal; guest time is in user time.
 * Time in interrupts is left out: most of it is for the packets of the benchmark, and no process is named for it.
 */
export function machineTicks(text: string): Omit<Usage, 'own'> {
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = (
    /^cpu +(.*)/m.exec(text)?.[1] ?? ''
  )
    .split(' ')
    .map(Number);
  const busy = user + nice + system;
  return { busy, steal, total: busy + idle + iowait + irq + softirq + steal };
}

/** A process's own time and that of its children that have ended, from /proc/PID/stat; 0 where it is empty. */
export function ticksWithEnded(stat: string): number {
  const fields = stat.slice(stat.lastIndexOf(') ') + 2).split(' ');
  return fields.slice(11, 15).reduce((sum, value) => sum + Number(value), 0); // utime, stime, cutime, cstime
}

/** CPU time of living processes so far, in microseconds. */
export function cpuMicrosecondsOf(pids: readonly number[]): number {
  const ticks = pids.map(pid => {
    const fields = (readWhereThere(`/proc/${pid}/stat`).split(') ')[1] ?? '').split(' ');
    return Number(fields[11] ?? 0) + Number(fields[12] ?? 0);
  });
  return ticks.reduce((sum, value) => sum + value, 0) * (1_000_000 / TICKS_PER_SECOND);
}

/** A process and all its descendants. */
export function treeOf(pid: number): number[] {
  const children = globSync(`/proc/${pid}/task/*/children`)
    .flatMap(file => readWhereThere(file).trim().split(' '))
    .filter(Boolean);
  return [pid, ...children.flatMap(child => treeOf(Number(child)))];
}

/** Empty where the thread or process has ended since it was listed, or the system has no such file. */
export function readWhereThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (!['ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    return '';
  }
}
