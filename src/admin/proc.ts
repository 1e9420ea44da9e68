/**
 * What the kernel tells of a process, to anybody with its user id: no worker is asked. It is what prom-client's own collectors read.
 */
import { readdirSync, readFileSync } from 'node:fs';

export interface ProcFacts {
  virtualBytes: number;
  /** Of its data segment, as prom-client understands "heap". */
  heapBytes: number;
  openFds: number;
  /** Infinity where there is no limit. */
  maxFds: number;
}

/** Undefined for a process that is gone, and where there is no /proc. */
export function procFacts(pid: number): ProcFacts | undefined {
  const folder = `/proc/${pid}`;
  try {
    const status = readFileSync(`${folder}/status`, 'latin1');
    const kib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]);
    const limit = /^Max open files\s+(\S+)/m.exec(readFileSync(`${folder}/limits`, 'latin1'))?.[1] ?? '';
    return {
      virtualBytes: kib('VmSize') * 1024,
      heapBytes: kib('VmData') * 1024,
      openFds: readdirSync(`${folder}/fd`).length,
      maxFds: limit === 'unlimited' ? Number.POSITIVE_INFINITY : Number(limit),
    };
  } catch {
    return undefined;
  }
}
