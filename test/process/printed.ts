/**
 * What `bosun` prints, and a machine on which that is always the same.
 */
import { FakeRoot } from '../fake-root.ts';
import type { Ran } from './operator.ts';

const MIB = 2 ** 20;

/** Two CPUs and enough memory for two workers. */
export function smallContainer(): FakeRoot {
  return new FakeRoot({ cpuMax: '200000 100000', memoryMax: String(1024 * MIB) });
}

/** Without the figures and the padding that they cause. */
export function normalised({ code, stdout, stderr }: Ran): { code: number | null; stdout: string; stderr: string } {
  const text = stdout
    .replaceAll(/\d+(\.\d+)*/g, '#')
    .replaceAll(/ +/g, ' ')
    .replaceAll(/^ /gm, '');
  return { code, stdout: text, stderr };
}
