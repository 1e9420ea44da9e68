/**
 * From the real files and settings to a sizing: what the primary runs on and what `bosun sizing` explains.
 */
import { availableParallelism, totalmem } from 'node:os';
import type { WorkerCount } from '../config/config.ts';
import { type Limits, type ReadText, readerBelow, resolveLimits } from './cgroup.ts';
import { heapOption, type NodeOptions, takeHeapChoice } from './node-options.ts';
import { type Machine, type Sizing, size, workableWorkers } from './sizing.ts';

export interface Detected {
  limits: Limits;
  sizing: Sizing;
  /** The most workers with a workable heap each. */
  workable: { count: number; memory: string };
  /** NODE_OPTIONS for the workers, without heap options, which are on their command line. */
  nodeOptions: string;
  workerCommandLine: string[];
}

/** Sizes for this container, or for the one whose /proc and /sys were copied below `root`; `limits` where they are known already. */
export function detect(
  asked: WorkerCount,
  nodeOptions: NodeOptions,
  root = '/',
  limits: Limits = resolveLimits(readerBelow(root)),
): Detected {
  const { choice, environment, commandLine } = takeHeapChoice(nodeOptions);
  const machine = machineOf(readerBelow(root), root);
  const sizing = size(limits, asked, machine, choice);
  const { heapPerWorkerMb } = sizing.memory;
  return {
    limits,
    sizing,
    workable: workableWorkers(limits, machine),
    nodeOptions: environment,
    workerCommandLine: [...commandLine, ...(heapPerWorkerMb === null ? [] : [heapOption(heapPerWorkerMb, choice)])],
  };
}

function machineOf(read: ReadText, root: string): Machine {
  const machine = { cpus: availableParallelism(), totalMemoryBytes: totalmem() };
  if (root === '/') return machine;
  const meminfo = read('/proc/meminfo');
  const kib = typeof meminfo === 'string' ? /^MemTotal:\s*(\d+) kB$/m.exec(meminfo)?.[1] : undefined;
  return { ...machine, totalMemoryBytes: kib === undefined ? Number.POSITIVE_INFINITY : Number(kib) * 1024 };
}
